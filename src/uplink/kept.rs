//! What the session that the cloud keeps for us knows of our messages at QoS 2 (MQTT 5.0, 4.3.3). Pure.
//!
//! Our packet ids are the local session's, and stay what they are from connection to connection. So an exchange that was
//! cut off is finished: PUBREL again for what the cloud has said to have, PUBLISH again with the same id for the rest.
//!
//! But a cloud may come back with an older session, without what it said to have. MQTT 5 tells (PUBCOMP with 0x92), and the
//! message is sent again. Before that no code tells: there PUBLISH goes again in any case, which a cloud that still has the
//! id takes for a repetition. The worst is a double, where PUBREL alone could be a loss.
//!
//! What is left of exchanges from before this program's start nobody here knows, nor what another address has kept. A cloud that has such an id would take a new
//! message for the old one come again, and drop it. So each id is released before its first use then: the old message goes
//! on its way at the cloud, and the new one is a new one.

use std::collections::HashSet;

use super::address::Address;
use crate::mqtt::PacketId;

/// What is known of the cloud's session.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The cloud has these (PUBREC), and was not seen to have let go of them (PUBCOMP).
    received: HashSet<PacketId>,
    /// The session is older than this program's run, or than the last connection to another address.
    strange: bool,
    /// Ids whose exchange is known all the same.
    known: HashSet<PacketId>,
    connected: bool,
    /// Whose session it is.
    address: Option<Address>,
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
    /// The next connection is to this address: what another has kept is unknown.
    pub(super) fn heads_for(&mut self, address: &Address) {
        if self.address.as_ref() != Some(address) {
            *self = Self { address: Some(address.clone()), ..Self::default() };
        }
    }

    /// A connection begins; `present` when the cloud has kept our session.
    pub(super) fn connected(&mut self, present: bool) {
        let first = !std::mem::replace(&mut self.connected, true);
        if !present {
            *self = Self { connected: true, address: self.address.take(), ..Self::default() };
        } else if first {
            self.strange = true;
        }
    }

    /// A publish of QoS 2 with this id sets out, to a cloud that `tells` when it does not know an id.
    pub(super) fn begin(&mut self, id: PacketId, tells: bool) -> Begin {
        if self.received.contains(&id) {
            if tells { Begin::Release } else { Begin::Publish }
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
            assert_eq!(kept.begin(ID, true), Begin::Publish);
            kept.received(ID);
            kept.connected(present);
            assert_eq!(kept.begin(ID, true), if present { Begin::Release } else { Begin::Publish });
            kept.over(ID);
            assert_eq!(kept.begin(ID, true), Begin::Publish);
        }
    }

    #[test]
    fn what_one_address_has_kept_another_has_not() {
        let (a, b): (Address, Address) = ("mqtt://a".parse().expect("valid"), "mqtt://b".parse().expect("valid"));
        let mut kept = Kept::default();
        for (address, present, begin) in [
            (&a, false, Begin::Publish),
            (&a, true, Begin::Release),
            (&b, true, Begin::ReleaseFirst),
            (&b, true, Begin::Release),
            // Not even its own of before.
            (&a, true, Begin::ReleaseFirst),
            (&b, false, Begin::Publish),
        ] {
            kept.heads_for(address);
            kept.connected(present);
            assert_eq!(kept.begin(ID, true), begin, "{address} {present}");
            kept.received(ID);
        }
    }

    #[test]
    fn a_cloud_that_cannot_tell_what_it_has_forgotten_is_sent_it_again() {
        let mut kept = Kept::default();
        kept.connected(false);
        kept.received(ID);
        kept.connected(true);
        assert_eq!(kept.begin(ID, false), Begin::Publish);
    }

    #[test]
    fn ids_of_an_earlier_run_are_released_once() {
        let mut kept = Kept::default();
        kept.connected(true);
        assert_eq!([kept.begin(ID, true), kept.begin(ID, true)], [Begin::ReleaseFirst, Begin::Publish]);
        kept.connected(true);
        assert_eq!([kept.begin(ID, true), kept.begin(PacketId::MAX, true)], [Begin::Publish, Begin::ReleaseFirst]);
        kept.connected(false);
        assert_eq!(kept.begin(PacketId::MAX, true), Begin::Publish);
        kept.forget(PacketId::MAX);
        assert_eq!(kept.begin(PacketId::MAX, true), Begin::ReleaseFirst);
    }
}
