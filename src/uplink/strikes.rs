//! The message on which the cloud hangs up: one that comes first and ends connection after connection is found, and set
//! aside, so that those behind it get through. Pure.
//!
//! A cloud of MQTT 3.1.1 has no other way to refuse a message than to close the connection. But connections end for many
//! reasons, and no message is to be blamed for those. So after a connection that ended with nothing acknowledged, the next
//! one sends the first message alone. If the cloud hangs up on that soon, by itself, the next connection has to hold for a
//! while before the message is sent; the third time it is the message's fault. Lines that are cut at random, even several
//! times a second, do not look like that; and when message after message seems at fault, it is the cloud that is.

use std::time::Duration;

use tokio::time::Instant;

use super::life::way;
use crate::mqtt::{PacketId, Reason};

/// So many times the cloud has to hang up on the same message.
const MOST: u32 = 3;

/// A cloud that does so does it at once.
const SOON: Duration = Duration::from_secs(5);

/// With so many set aside in a row and nothing acknowledged in between, it is not the messages.
const MOST_IN_A_ROW: u32 = 10;

/// How the next connection is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caution {
    None,
    /// The first message alone.
    Alone,
    /// The same, but not before the connection has held for a while.
    AloneAfterAWhile,
}

/// How a connection ended, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// Something was acknowledged over it.
    pub(super) acknowledged: bool,
    /// Something was under way.
    pub(super) in_flight: bool,
    /// The message that was alone under way, and its bytes.
    pub(super) alone: Option<(PacketId, usize)>,
    /// The cloud hung up, with this reason, which may be about a message.
    pub(super) hung_up: Option<Reason>,
    /// It was we who hung up: the cloud had owed an acknowledgement for too long.
    pub(super) overdue: bool,
}

/// What is held against the message that comes first.
#[derive(Debug, Default)]
pub(super) struct Strikes {
    doubt: bool,
    head: Option<PacketId>,
    count: u32,
    reason: Option<Reason>,
    /// When it was sent.
    sent: Option<Instant>,
    /// Something came from the cloud since.
    heard: bool,
    in_a_row: u32,
}

impl Strikes {
    pub(super) fn caution(&self) -> Caution {
        match (self.doubt, self.count) {
            (false, _) => Caution::None,
            (true, 0) => Caution::Alone,
            (true, _) => Caution::AloneAfterAWhile,
        }
    }

    /// This message is about to be sent alone. With a reason it is to be set aside instead.
    pub(super) fn sends(&mut self, id: PacketId) -> Option<Reason> {
        if self.head != Some(id) {
            (self.head, self.count) = (Some(id), 0);
        }
        (self.sent, self.heard) = (Some(Instant::now()), false);
        if self.count < MOST || self.in_a_row >= MOST_IN_A_ROW {
            return None;
        }
        self.in_a_row += 1;
        (self.head, self.count) = (None, 0);
        Some(self.reason.take().filter(|r| *r != Reason::UNSPECIFIED).unwrap_or(Reason::ENDED_CONNECTIONS))
    }

    /// Something came from the cloud: it lives.
    pub(super) fn heard(&mut self) {
        self.heard = true;
    }

    /// The cloud acknowledges.
    pub(super) fn acknowledged(&mut self) {
        *self = Self::default();
    }

    /// A connection has ended.
    pub(super) fn ended(&mut self, ending: Ending) {
        // A cloud that acknowledges may leave one out all the same.
        if (ending.acknowledged && !ending.overdue) || !ending.in_flight {
            return;
        }
        self.doubt = true;
        let (Some((id, bytes)), Some(sent)) = (ending.alone, self.sent) else { return };
        let blamed = match ending.hung_up {
            Some(reason) => (sent.elapsed() <= SOON + way(bytes)).then_some(reason),
            // A cloud that says nothing at all is gone, or overloaded.
            None => (ending.overdue && self.heard).then_some(Reason::NEVER_ACKNOWLEDGED),
        };
        if self.head == Some(id) && blamed.is_some() {
            self.count += 1;
            self.reason = blamed;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const HEAD: PacketId = PacketId::MIN;

    fn ending(hung_up: Option<Reason>, alone: bool) -> Ending {
        Ending { acknowledged: false, in_flight: true, alone: alone.then_some((HEAD, 10)), hung_up, overdue: false }
    }

    /// One connection on which the cloud hangs up; whether its message is set aside.
    fn connection(strikes: &mut Strikes, hung_up: Option<Reason>) -> Option<Reason> {
        let alone = strikes.caution() != Caution::None;
        let aside = if alone { strikes.sends(HEAD) } else { None };
        if aside.is_none() {
            strikes.ended(ending(hung_up, alone));
        }
        aside
    }

    #[tokio::test(start_paused = true)]
    async fn the_message_on_which_the_cloud_hangs_up_again_and_again_is_set_aside() {
        for (said, reason) in
            [(Reason::UNSPECIFIED, Reason::ENDED_CONNECTIONS), (Reason::PACKET_TOO_LARGE, Reason::PACKET_TOO_LARGE)]
        {
            let mut strikes = Strikes::default();
            let cautions = [Caution::None, Caution::Alone, Caution::AloneAfterAWhile, Caution::AloneAfterAWhile];
            for caution in cautions {
                assert_eq!(strikes.caution(), caution);
                assert_eq!(connection(&mut strikes, Some(said)), None);
            }
            assert_eq!(connection(&mut strikes, Some(said)), Some(reason));
            // The next is not to blame for this one.
            assert_eq!(strikes.sends(PacketId::MAX), None);
            strikes.acknowledged();
            assert_eq!(strikes.caution(), Caution::None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_message_that_a_living_cloud_swallows_again_and_again_is_set_aside() {
        for lives in [true, false] {
            let mut strikes = Strikes::default();
            // One was left out, and others acknowledged.
            strikes.ended(Ending { acknowledged: true, overdue: true, ..ending(None, false) });
            for _ in 0..MOST {
                assert_ne!(strikes.caution(), Caution::None);
                assert_eq!(strikes.sends(HEAD), None);
                if lives {
                    strikes.heard();
                }
                advance(20 * Duration::from_secs(1)).await;
                strikes.ended(Ending { overdue: true, ..ending(None, true) });
            }
            assert_eq!(strikes.sends(HEAD), lives.then_some(Reason::NEVER_ACKNOWLEDGED));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_break_and_clouds_that_are_slow_or_gone_blame_nobody() {
        let mut strikes = Strikes::default();
        for _ in 0..50 {
            assert_eq!(connection(&mut strikes, None), None, "it was not the cloud that hung up");
        }
        for _ in 0..50 {
            strikes.sends(HEAD);
            advance(SOON + Duration::from_millis(1)).await;
            strikes.ended(ending(Some(Reason::UNSPECIFIED), true));
            assert_eq!(strikes.caution(), Caution::Alone, "not soon");
        }
        for _ in 0..50 {
            connection(&mut strikes, Some(Reason::UNSPECIFIED));
            connection(&mut strikes, Some(Reason::UNSPECIFIED));
            strikes.acknowledged();
        }
        let idle = Ending { in_flight: false, ..ending(Some(Reason::UNSPECIFIED), false) };
        (0..50).for_each(|_| strikes.ended(idle));
        assert_eq!(strikes.caution(), Caution::None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cloud_that_hangs_up_on_every_message_does_not_empty_the_queue() {
        let mut strikes = Strikes::default();
        let mut set_aside = 0;
        for _ in 0..1000 {
            set_aside += u32::from(connection(&mut strikes, Some(Reason::UNSPECIFIED)).is_some());
        }
        assert_eq!(set_aside, MOST_IN_A_ROW);
    }
}
