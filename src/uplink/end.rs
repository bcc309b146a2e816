//! How a connection to the cloud ended.

use std::io::{self, ErrorKind};

use crate::mqtt::Reason;
use crate::mqtt::wire::Error;

/// The end of a connection.
#[derive(Debug)]
pub(super) struct End {
    /// For the person who has to mend it.
    pub(super) why: String,
    /// The cloud hung up, with this reason, which may be about what it was sent; [`Reason::UNSPECIFIED`] when it gave none.
    pub(super) hung_up: Option<Reason>,
}

impl End {
    /// The cloud said that it hangs up.
    pub(super) fn disconnected(reason: Reason) -> Self {
        // Busy, shutting down, taken over, use another server…: none of it is about a message.
        let about_a_message = matches!(reason.0, 0x00 | 0x80..=0x83 | 0x87 | 0x90 | 0x94 | 0x95 | 0x99..=0x9B);
        let why = format!("the cloud ended the connection: {}", super::login::meaning(reason));
        let reason = if reason.is_error() { reason } else { Reason::UNSPECIFIED };
        Self { why, hung_up: about_a_message.then_some(reason) }
    }
}

impl From<String> for End {
    fn from(why: String) -> Self {
        Self { why, hung_up: None }
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(e) => e.into(),
            Error::Closed => Self { why: "the cloud closed the connection".into(), hung_up: Some(Reason::UNSPECIFIED) },
            error => error.to_string().into(),
        }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let closed = matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
        Self { why: error.to_string(), hung_up: closed.then_some(Reason::UNSPECIFIED) }
    }
}
