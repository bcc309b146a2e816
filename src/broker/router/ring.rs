//! Messages that other gateways bring: marked with where they come from, and not let in when they have been here.

use std::sync::Arc;

use super::Router;
use crate::broker::topics::SessionKey;
use crate::message::Message;
use crate::trail;

/// Whose uplink a client is: the gateway that its will is about.
pub(super) fn gateway_of(will: &str) -> Option<&str> {
    let gateway = will.strip_prefix("fieldpost/")?.strip_suffix("/status")?;
    (!gateway.is_empty() && !gateway.contains('/')).then_some(gateway)
}

impl Router {
    /// Whether a message of a client's has been at this gateway before.
    pub(super) fn came_round(&self, from: Option<SessionKey>, message: &Message) -> bool {
        let (Some(gateway), Some(_)) = (&self.gateway, &message.properties) else { return false };
        let is_client = || from.and_then(|key| self.sessions.get(&key)).is_some_and(|s| !s.is_of_the_gateway());
        trail::has_passed(message, gateway) && is_client()
    }

    /// The message with the mark of the gateway that brought it, if one did.
    pub(super) fn marked(&self, from: Option<SessionKey>, message: Arc<Message>) -> Arc<Message> {
        let session = from.and_then(|key| self.sessions.get(&key));
        let Some(gateway) = session.and_then(|session| session.gateway.clone()) else { return message };
        if trail::has_passed(&message, &gateway) {
            return message;
        }
        let mut message = Arc::unwrap_or_clone(message);
        trail::add(&mut message, gateway);
        Arc::new(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_known_by_its_will() {
        for (will, gateway) in [
            ("fieldpost/plant7/status", Some("plant7")),
            ("fieldpost/status", None),
            ("fieldpost//status", None),
            ("fieldpost/plant7/device/status", None),
            ("plants/plant7/status", None),
        ] {
            assert_eq!(gateway_of(will), gateway, "{will}");
        }
    }
}
