//! The page and its API: what every part reports, live. Loopback only unless there is a password.
