//! A reload: what of a changed config takes effect while everything runs. Clients stay connected.
//!
//! Users, access rules and certificates do; of every other changed setting it is said that it needs a restart.

use std::sync::Arc;

use super::read_doors;
use crate::broker::listener::config::Config as Listener;
use crate::broker::listener::door::{DoorError, Doors};
use crate::broker::{self, Broker};
use crate::config::{Config, Settings};

/// The way to reload a running gateway.
#[derive(Debug)]
pub struct Reload {
    broker: Broker,
    doors: Doors,
    /// As they were when the gateway started.
    settings: Settings,
    listeners: Vec<Listener>,
    /// Whether there were users or rules then.
    guarded: bool,
}

impl Reload {
    pub(super) fn new(config: &Config, broker: Broker, doors: Doors) -> Self {
        let (listeners, guarded) = (config.broker.listeners(), config.broker.is_guarded());
        Self { broker, doors, settings: config.settings.clone(), listeners, guarded }
    }

    /// Puts the users, rules and certificates of `config` in force: all of them or, when a file is not as it has to be,
    /// none. Logs what else has changed.
    ///
    /// # Errors
    /// When nothing was changed; the text says which file is not as it has to be.
    pub async fn apply(&self, config: Config) -> Result<(), DoorError> {
        // A door for each listener that is bound, whatever the new config lists.
        let bound = self.listeners.iter().map(|old| renewed(old, &config.broker)).collect();
        let broker = broker::Config { listen: String::new(), listeners: bound, ..config.broker.clone() };
        let (access, doors) = read_doors(broker).await?;
        // First the router: a will that the new rules forbid must not come from a client that has to leave.
        self.broker.set_access(access).await;
        self.doors.replace(doors);
        tracing::info!("users, access rules and certificates are reloaded");
        for key in self.needs_restart(&config) {
            tracing::warn!("`{key}` has changed, which needs a restart");
        }
        Ok(())
    }

    fn needs_restart(&self, config: &Config) -> Vec<Arc<str>> {
        let mut keys = self.settings.changed(&config.settings);
        let listeners = config.broker.listeners();
        let same = self.listeners.len() == listeners.len()
            && self.listeners.iter().zip(&listeners).all(|(old, new)| is_same_place(old, new));
        let first_guard = !self.guarded && config.broker.is_guarded();
        keys.retain(|key| match &**key {
            "broker.users" | "broker.acl" | "broker.anonymous" => false,
            "broker.listen" | "broker.listener" => !same,
            _ => true,
        });
        if first_guard {
            // The exchange still answers where a command asks it to, which would lead around the rules.
            keys.push("broker.acl, for the response topics of commands".into());
        }
        keys
    }
}

/// A bound listener with the files and the door that the new config gives it; as it was, when that has no such listener.
fn renewed(old: &Listener, new: &broker::Config) -> Listener {
    new.listeners().into_iter().find(|new| is_same_place(old, new)).unwrap_or_else(|| old.clone())
}

/// Whether what is bound can serve the new listener as well.
fn is_same_place(old: &Listener, new: &Listener) -> bool {
    (&old.listen, old.scheme(), &old.origins) == (&new.listen, new.scheme(), &new.origins)
}
