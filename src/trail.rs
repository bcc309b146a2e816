//! The trail of a message: by which gateways it has come, so that it never comes round to one of them again. Pure.
//!
//! A ring of brokers would carry a message round for ever: No Local of MQTT 5 and the bridge's mark before it hold between
//! two neighbours only. So a message from another gateway, and one from a cloud, carries user properties `fieldpost-via`,
//! one a hop: a gateway's id where it has been, `GATEWAY/UPLINK` where it came down. What a gateway itself makes carries
//! none. MQTT before 5 has no user properties: there a message with a trail goes no further.

use std::sync::Arc;

use crate::message::Message;

/// The name of the user properties.
pub const PROPERTY: &str = "fieldpost-via";

/// Hops at most: a message that has made so many is not carried further.
pub const MOST: usize = 16;

/// The hops of a message, in order.
pub fn hops(message: &Message) -> impl Iterator<Item = &str> {
    let user = message.properties.as_ref().map_or(&[][..], |properties| &properties.user);
    user.iter().filter(|(name, _)| &**name == PROPERTY).map(|(_, hop)| &**hop)
}

/// Whether a message has been at `gateway`.
pub fn has_passed(message: &Message, gateway: &str) -> bool {
    hops(message).any(|hop| hop.split('/').next() == Some(gateway))
}

/// Whether a message came down to `gateway` by `uplink`.
pub fn came_by(message: &Message, gateway: &str, uplink: &str) -> bool {
    hops(message).any(|hop| hop.split_once('/') == Some((gateway, uplink)))
}

/// Whether a message may make no hop more.
pub fn is_full(message: &Message) -> bool {
    hops(message).count() >= MOST
}

/// Adds a hop at the end.
pub fn add(message: &mut Message, hop: impl Into<Arc<str>>) {
    message.properties.get_or_insert_default().user.push((PROPERTY.into(), hop.into()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_knows_where_it_has_been() {
        let mut message = Message::new("t", "x");
        assert_eq!(hops(&message).count(), 0);
        add(&mut message, "plant7");
        add(&mut message, "plant8/cloud");
        message.properties.get_or_insert_default().user.push(("by".into(), "plant9".into()));
        assert_eq!(hops(&message).collect::<Vec<_>>(), ["plant7", "plant8/cloud"]);
        for (gateway, has) in [("plant7", true), ("plant8", true), ("plant", false), ("plant9", false)] {
            assert_eq!(has_passed(&message, gateway), has, "{gateway}");
        }
        assert!(came_by(&message, "plant8", "cloud"));
        assert!(!came_by(&message, "plant8", "other") && !came_by(&message, "plant7", "cloud"));
    }

    #[test]
    fn a_trail_has_an_end() {
        let mut message = Message::new("t", "x");
        for n in 0..MOST {
            assert!(!is_full(&message));
            add(&mut message, n.to_string());
        }
        assert!(is_full(&message));
    }
}
