//! What the session that the cloud keeps for us knows of our messages at QoS 2 (MQTT 5.0, 4.3.3). Pure.
//!
//! Our packet ids are the local session's, and stay what they are from connection to connection. So an exchange that was
//! cut off is finished: PUBREL again for what the cloud has said to have, PUBLISH again with the same id for the rest.
//!
//! What is left of exchanges from before this program's start nobody here knows. A cloud that has such an id would take a new
//! message for the old one come again, and drop it. So each id is released before its first use then: the old message goes
//! on its way at the cloud, and the new one is a new one.

use std::collections::HashSet;

use crate::mqtt::PacketId;

/// What is known of the cloud's session.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The cloud has these (PUBREC), and was not seen to have let go of them (PUBCOMP).
    received: HashSet<PacketId>,
    /// The session is older than this program's run.
    strange: bool,
    /// Ids whose exchange is known all the same.
    known: HashSet<PacketId>,
    connected: bool,
}

/// How a publish of QoS 2 is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Publish,
    /// With PUBREL before it: the id may be that of another message.
    ReleaseFirst,
    /// The cloud has it: PUBREL is what is left to say.
    Release,
}

impl Kept {
    /// A connection begins; `present` when the cloud has kept our session.
    pub(super) fn connected(&mut self, present: bool) {
        let first = !std::mem::replace(&mut self.connected, true);
        if !present {
            *self = Self { connected: true, ..Self::default() };
        } else if first {
            self.strange = true;
        }
    }

    /// A publish of QoS 2 with this id sets out.
    pub(super) fn begin(&mut self, id: PacketId) -> Begin {
        if self.received.contains(&id) {
            Begin::Release
        } else if self.strange && self.known.insert(id) {
            Begin::ReleaseFirst
        } else {
            Begin::Publish
        }
    }

    /// PUBREC came.
    pub(super) fn received(&mut self, id: PacketId) {
        self.received.insert(id);
    }

    /// PUBCOMP came, or a refusal.
    pub(super) fn over(&mut self, id: PacketId) {
        self.received.remove(&id);
    }

    /// The publish with this id is given up, and the cloud may have it or not.
    pub(super) fn forget(&mut self, id: PacketId) {
        self.received.remove(&id);
        self.known.remove(&id);
        self.strange = true;
    }

    /// Whether the cloud may use this id for an exchange.
    pub(super) fn has(&self, id: PacketId) -> bool {
        self.received.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: PacketId = PacketId::MIN;

    #[test]
    fn an_exchange_is_finished_when_the_cloud_has_kept_the_session_and_begun_anew_otherwise() {
        for present in [true, false] {
            let mut kept = Kept::default();
            kept.connected(false);
            assert_eq!(kept.begin(ID), Begin::Publish);
            kept.received(ID);
            kept.connected(present);
            assert_eq!(kept.begin(ID), if present { Begin::Release } else { Begin::Publish });
            kept.over(ID);
            assert_eq!(kept.begin(ID), Begin::Publish);
        }
    }

    #[test]
    fn ids_of_an_earlier_run_are_released_once() {
        let mut kept = Kept::default();
        kept.connected(true);
        assert_eq!([kept.begin(ID), kept.begin(ID)], [Begin::ReleaseFirst, Begin::Publish]);
        kept.connected(true);
        assert_eq!([kept.begin(ID), kept.begin(PacketId::MAX)], [Begin::Publish, Begin::ReleaseFirst]);
        kept.connected(false);
        assert_eq!(kept.begin(PacketId::MAX), Begin::Publish);
        kept.forget(PacketId::MAX);
        assert_eq!(kept.begin(PacketId::MAX), Begin::ReleaseFirst);
    }
}
