//! Messages that the cloud will not have, ever: what is said of them. They leave the queue and are kept aside in the store.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::mqtt::Reason;

/// How often the log says the same.
const EVERY: Duration = Duration::from_secs(60);

/// The reason of what goes nowhere: at QoS 0, and more of it than may go up.
pub(super) const TOO_FAST: &str = "too-fast";

/// What `status` and the metrics call the reason.
pub(super) fn name(reason: Reason) -> &'static str {
    match reason {
        Reason::NOT_AUTHORIZED => "not-authorised",
        Reason::TOPIC_NAME_INVALID => "topic",
        Reason::PACKET_TOO_LARGE => "too-large",
        Reason::PAYLOAD_FORMAT_INVALID => "payload-format",
        Reason::IMPLEMENTATION_SPECIFIC => "implementation-specific",
        Reason::NEVER_ACKNOWLEDGED => "never-acknowledged",
        Reason::WOULD_COME_BACK => "would-come-back",
        Reason::ENDED_CONNECTIONS => "ended-connections",
        _ => "unspecified",
    }
}

/// What the log has been told.
#[derive(Debug, Default)]
pub(super) struct Asides {
    /// By reason: when it was last told, and how many there were since.
    told: BTreeMap<&'static str, (Instant, u64)>,
    paused: Option<Instant>,
}

impl Asides {
    /// Tells of a message on this topic, or not yet.
    pub(super) fn say(&mut self, topic: &str, reason: Reason) {
        if let Some(more) = self.due(name(reason)) {
            let more = if more == 0 { String::new() } else { format!(" ({more} more since this was said last)") };
            let why = super::login::meaning(reason);
            tracing::error!(
                "the cloud will not have a message on {topic}: {why}. It is set aside, and the next go on{more}"
            );
        }
    }

    /// Tells of a message at QoS 0 that came faster than they may go up, or not yet.
    pub(super) fn say_too_fast(&mut self, topic: &str) {
        if let Some(more) = self.due(TOO_FAST) {
            let more = if more == 0 { String::new() } else { format!(" ({more} more since this was said last)") };
            tracing::warn!("a message on {topic} is dropped: at QoS 0, more comes than may go up{more}");
        }
    }

    /// Tells that the cloud takes no more for now, or not yet.
    pub(super) fn say_pause(&mut self) {
        if self.paused.is_none_or(|at| at.elapsed() >= EVERY) {
            self.paused = Some(Instant::now());
            tracing::warn!("the cloud takes no more for now: quota exceeded (0x97). It is tried again, with pauses");
        }
    }

    /// How many were not told of, when one is to be.
    fn due(&mut self, name: &'static str) -> Option<u64> {
        let now = Instant::now();
        match self.told.get_mut(name) {
            Some((at, silent)) if now - *at < EVERY => {
                *silent += 1;
                None
            }
            told => {
                let silent = told.map_or(0, |(_, silent)| *silent);
                self.told.insert(name, (now, 0));
                Some(silent)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_reason_is_told_once_a_minute_with_how_many_there_were() {
        let mut asides = Asides::default();
        assert_eq!(
            [asides.due("a"), asides.due("a"), asides.due("b"), asides.due("a")],
            [Some(0), None, Some(0), None]
        );
        tokio::time::advance(EVERY).await;
        assert_eq!([asides.due("a"), asides.due("a")], [Some(2), None]);
    }
}
