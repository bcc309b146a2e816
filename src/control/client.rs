//! Who asks a running gateway; blocking, as the command line is.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Answer, MAX_LINE, Request};

/// How long an answer may take: a slow disk may have much to write.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection to a running gateway.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// The request is longer than a gateway takes.
    TooLong,
    /// The connection failed; it is not known what became of the request.
    Lost(io::Error),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::TooLong => write!(f, "the control socket takes {MAX_LINE} bytes at once, and this has more"),
            AskError::Lost(e) => write!(f, "the running gateway gave no answer: {e}"),
        }
    }
}

impl std::error::Error for AskError {}

impl Client {
    /// Connects to the gateway that listens at `path`.
    ///
    /// # Errors
    /// When none does, or it is not open to us.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, AskError> {
        let mut line = serde_json::to_vec(request).expect("text and numbers are JSON");
        if line.len() > MAX_LINE {
            return Err(AskError::TooLong);
        }
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(AskError::Lost)?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer).map_err(AskError::Lost)?;
        serde_json::from_str(&answer).map_err(|e| match answer.is_empty() {
            true => AskError::Lost(io::ErrorKind::UnexpectedEof.into()),
            false => AskError::Lost(io::Error::new(io::ErrorKind::InvalidData, e)),
        })
    }
}
