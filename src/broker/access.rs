//! Who may connect, publish and subscribe: the user list and the access rules. Pure but for reading the file.
//!
//! What no rule allows is denied, except where there are neither users nor rules: then everything is allowed.

mod hash;
mod users;

use serde::Deserialize;

use crate::mqtt::topic;

pub use users::{Login, Users, UsersError};

/// `[[broker.acl]]`: what a user, or everybody, may read and write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// For this user only; for everybody when absent.
    pub user: Option<String>,
    /// For this client id only.
    pub client_id: Option<String>,
    /// Topic filters that may be subscribed to. `%u` stands for the user, `%c` for the client id.
    pub read: Vec<String>,
    /// Topic filters that may be published to, with the same placeholders.
    pub write: Vec<String>,
}

/// The users and rules of a broker.
#[derive(Debug, Default)]
pub struct Access {
    users: Option<Users>,
    rules: Vec<Rule>,
}

impl Access {
    /// Without a user list and rules everybody may do everything. With either, what no rule allows is denied.
    pub fn new(users: Option<Users>, rules: Vec<Rule>) -> Self {
        Self { users, rules }
    }

    /// Whether passwords are asked for.
    pub fn has_users(&self) -> bool {
        self.users.is_some()
    }

    /// Checks user and password; none when they are wrong. Takes a good part of a second: not for the router's task.
    pub fn login(&self, user: &str, password: &[u8]) -> Option<Login> {
        self.users.as_ref()?.verify(user, password)
    }

    /// Whether a login of before is one still: the user is in the list, with the same password.
    ///
    /// # Errors
    /// Which of the two is not so.
    pub fn still_knows(&self, login: &Login) -> Result<(), &'static str> {
        self.users.as_ref().map_or(Ok(()), |users| users.still_knows(login))
    }

    /// Whether a client may publish on `topic`. Topics that begin with `$` are the gateway's own.
    pub fn may_publish(&self, user: Option<&str>, client_id: &str, topic: &str) -> bool {
        !topic.starts_with('$')
            && self.allows(user, client_id, |rule| &rule.write, |pattern| topic::matches(pattern, topic))
    }

    /// Whether a client may subscribe to `filter`: one pattern has to cover all that it can match. A shared filter
    /// matches no more than what stands within it.
    pub fn may_subscribe(&self, user: Option<&str>, client_id: &str, filter: &str) -> bool {
        let filter = topic::unshared(filter);
        self.allows(user, client_id, |rule| &rule.read, |pattern| covers(pattern, filter))
    }

    fn allows<'a>(
        &'a self,
        user: Option<&str>,
        client_id: &str,
        patterns: impl Fn(&'a Rule) -> &'a Vec<String>,
        fits: impl Fn(&str) -> bool,
    ) -> bool {
        // A name with a separator or a wildcard in it must not widen a pattern.
        let plain = |name: &str| !name.contains(['/', '+', '#']);
        (self.rules.is_empty() && self.users.is_none())
            || self
                .rules
                .iter()
                .filter(|rule| rule.user.as_deref().is_none_or(|wanted| user == Some(wanted)))
                .filter(|rule| rule.client_id.as_deref().is_none_or(|wanted| client_id == wanted))
                .flat_map(patterns)
                .any(|pattern| {
                    let user_fits = !pattern.contains("%u") || user.is_some_and(plain);
                    let client_fits = !pattern.contains("%c") || plain(client_id);
                    user_fits && client_fits && fits(&fill(pattern, user.unwrap_or_default(), client_id))
                })
    }
}

/// The pattern with its placeholders filled in; what is filled in is not looked at again.
fn fill(pattern: &str, user: &str, client_id: &str) -> String {
    let with_client: Vec<_> = pattern.split("%u").map(|part| part.replace("%c", client_id)).collect();
    with_client.join(user)
}

/// Whether every topic that `filter` matches is matched by `pattern` as well.
fn covers(pattern: &str, filter: &str) -> bool {
    if filter.starts_with('$') && pattern.starts_with(['+', '#']) {
        return false;
    }
    let (mut pattern, mut filter) = (pattern.split('/'), filter.split('/'));
    loop {
        match (pattern.next(), filter.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_users_and_no_rule_nobody_may_do_anything() {
        let access = Access::new(Some(Users::default()), Vec::new());
        assert!(!access.may_subscribe(Some("ada"), "c", "t") && !access.may_publish(Some("ada"), "c", "t"));
        let all = Rule { read: vec!["#".into()], write: vec!["#".into()], ..Rule::default() };
        let access = Access::new(Some(Users::default()), vec![all]);
        assert!(access.may_subscribe(Some("ada"), "c", "#") && access.may_publish(Some("ada"), "c", "t"));
    }

    #[test]
    fn rules_deny_what_they_do_not_allow() {
        let rules = vec![
            Rule { user: Some("dash".into()), read: vec!["plant/#".into()], ..Rule::default() },
            Rule { read: vec!["own/%u/#".into()], write: vec!["own/%u/+".into(), "c/%c".into()], ..Rule::default() },
        ];
        let access = Access::new(None, rules);
        assert!(access.may_subscribe(Some("dash"), "c", "plant/+/x"));
        assert!(access.may_subscribe(Some("dash"), "c", "plant/#"));
        assert!(!access.may_subscribe(Some("dash"), "c", "#"));
        assert!(!access.may_subscribe(Some("other"), "c", "plant/a"));
        assert!(access.may_subscribe(Some("other"), "c", "own/other/a/#"));
        assert!(!access.may_subscribe(Some("+"), "c", "own/+/a"), "a wildcard for a name widens nothing");
        assert!(!access.may_subscribe(Some("%c"), "+", "own/x/a"), "nor does a placeholder");
        assert!(!access.may_publish(Some("dash"), "c", "plant/a"));
        assert!(access.may_publish(Some("dash"), "c", "own/dash/a"));
        assert!(!access.may_publish(Some("dash"), "c", "own/other/a"));
        assert!(access.may_publish(None, "me", "c/me"));
        assert!(!access.may_publish(None, "c", "$SYS/x"));
        assert!(access.may_subscribe(Some("dash"), "c", "$share/g/plant/+"));
        assert!(!access.may_subscribe(Some("dash"), "c", "$share/plant/secret"));
        assert!(Access::default().may_subscribe(None, "c", "#"));
    }
}
