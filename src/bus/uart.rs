//! What devices say unasked on a serial line: bytes to lines, lines to NMEA 0183 sentences. Pure.

pub(super) mod listener;

use std::fmt;

/// Why bytes from a line are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// No line break within this many bytes; what came up to the next one was dropped.
    TooLong(usize),
    /// The line is no UTF-8 text.
    NotText,
    /// The sentence does not begin with `$`.
    NoStart,
    /// The sentence does not end with `*` and two hexadecimal digits.
    NoChecksum,
    /// The checksum that the sentence carries is not that of its characters.
    Checksum { carried: u8, computed: u8 },
    /// The sentence does not begin with a talker and a type, such as `GPGGA`.
    NoName,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong(max) => write!(f, "no line break within {max} bytes"),
            FrameError::NotText => f.write_str("the line is no UTF-8 text: is the baud rate right?"),
            FrameError::NoStart => f.write_str("the sentence does not begin with `$`"),
            FrameError::NoChecksum => f.write_str("the sentence does not end with `*` and its checksum"),
            FrameError::Checksum { carried, computed } => {
                write!(f, "the sentence carries the checksum {carried:02X}, but its characters make {computed:02X}")
            }
            FrameError::NoName => f.write_str("the sentence does not begin with a talker and a type such as GPGGA"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Cuts a stream of bytes at its line breaks, LF or CR LF.
#[derive(Clone, Debug)]
pub struct Lines {
    max: usize,
    /// The beginning of a line whose end has not come; never more than `max` bytes and a CR.
    held: Vec<u8>,
    /// Whether the rest of a line that was too long is still to come.
    skipping: bool,
}

impl Lines {
    /// Lines of at most `max` bytes, their break not counted.
    pub fn new(max: usize) -> Self {
        Self { max, held: Vec::new(), skipping: false }
    }

    /// Takes the next bytes, and gives each line that is now complete to `each`, without its break. Empty lines are
    /// left out. After an error the next line is read as if nothing had been.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Result<&str, FrameError>)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            let whole = if self.held.is_empty() {
                self.checked(line)
            } else if self.fits(line) {
                self.held.extend_from_slice(line);
                self.checked(&self.held)
            } else {
                Some(Err(FrameError::TooLong(self.max)))
            };
            if let Some(line) = whole {
                each(line);
            }
            self.held.clear();
        }
        if self.skipping {
            return;
        }
        if self.fits(rest) {
            self.held.extend_from_slice(rest);
        } else {
            self.held.clear();
            self.skipping = true;
            each(Err(FrameError::TooLong(self.max)));
        }
    }

    /// Forgets the line that has begun: what comes next is from another connection.
    pub fn clear(&mut self) {
        self.held.clear();
        self.skipping = false;
    }

    /// Whether `more` can be held as well; one byte more than a line may have, for its CR.
    fn fits(&self, more: &[u8]) -> bool {
        self.held.len() + more.len() <= self.max.saturating_add(1)
    }

    fn checked<'a>(&self, line: &'a [u8]) -> Option<Result<&'a str, FrameError>> {
        match line.strip_suffix(b"\r").unwrap_or(line) {
            [] => None,
            line if line.len() > self.max => Some(Err(FrameError::TooLong(self.max))),
            line => Some(std::str::from_utf8(line).map_err(|_| FrameError::NotText)),
        }
    }
}

/// A checked sentence of NMEA 0183.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence<'a> {
    talker: &'a str,
    kind: &'a str,
    fields: Option<&'a str>,
}

/// Reads a sentence, `$GPGGA,…*47`: the exclusive or of all between `$` and `*` must be the checksum.
///
/// # Errors
/// When it is not whole and undamaged. A sentence without a checksum is refused: nothing would tell a damaged one.
pub fn nmea(line: &str) -> Result<Sentence<'_>, FrameError> {
    let body = line.strip_prefix('$').ok_or(FrameError::NoStart)?;
    let (body, digits) = body.trim_end().rsplit_once('*').ok_or(FrameError::NoChecksum)?;
    if digits.len() != 2 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(FrameError::NoChecksum);
    }
    let carried = u8::from_str_radix(digits, 16).map_err(|_| FrameError::NoChecksum)?;
    let computed = body.bytes().fold(0, |sum, b| sum ^ b);
    if carried != computed {
        return Err(FrameError::Checksum { carried, computed });
    }
    let (name, fields) = match body.split_once(',') {
        Some((name, fields)) => (name, Some(fields)),
        None => (body, None),
    };
    // A maker's own sentences have the talker P and any name.
    let talker = if name.starts_with('P') { 1 } else { 2 };
    if name.len() <= talker || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(FrameError::NoName);
    }
    let (talker, kind) = name.split_at(talker);
    Ok(Sentence { talker, kind, fields })
}

impl<'a> Sentence<'a> {
    /// Who speaks: `GP`, `GN`, …; `P` in a maker's own sentences.
    pub fn talker(&self) -> &'a str {
        self.talker
    }

    /// The type of sentence: `GGA`, `RMC`, ….
    pub fn kind(&self) -> &'a str {
        self.kind
    }

    /// Field `n`, 1 being the first after the name; none when there are fewer.
    pub fn field(&self, n: usize) -> Option<&'a str> {
        self.fields?.split(',').nth(n.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GGA: &str = "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47";

    fn cut(lines: &mut Lines, bytes: &[u8]) -> Vec<Result<String, FrameError>> {
        let mut all = Vec::new();
        lines.push(bytes, |line| all.push(line.map(str::to_owned)));
        all
    }

    fn ok(lines: &[&str]) -> Vec<Result<String, FrameError>> {
        lines.iter().map(|line| Ok((*line).to_owned())).collect()
    }

    #[test]
    fn cuts_at_either_break_however_the_bytes_come() {
        let stream = b"one\r\ntwo\n\r\n\nthr\ree\r\nfour";
        let wanted = ok(&["one", "two", "thr\ree"]);
        for size in 1..=stream.len() {
            let mut lines = Lines::new(8);
            let got: Vec<_> = stream.chunks(size).flat_map(|bytes| cut(&mut lines, bytes)).collect();
            assert_eq!(got, wanted, "{size} bytes at a time");
            assert_eq!(cut(&mut lines, b"th\n"), ok(&["fourth"]));
        }
    }

    #[test]
    fn a_line_too_long_is_one_error_and_the_next_is_fine() {
        let stream = b"12345\r\n123456\r\n12345678901234567890\nok\r\n";
        let long = || Err(FrameError::TooLong(5));
        for size in 1..=stream.len() {
            let mut lines = Lines::new(5);
            let got: Vec<_> = stream.chunks(size).flat_map(|bytes| cut(&mut lines, bytes)).collect();
            assert_eq!(got, [Ok("12345".to_owned()), long(), long(), Ok("ok".to_owned())], "{size} bytes at a time");
        }
    }

    #[test]
    fn what_is_no_text_is_an_error_and_the_next_is_fine() {
        let mut lines = Lines::new(80);
        assert_eq!(cut(&mut lines, b"\xFF\xFE\nfine\n"), [Err(FrameError::NotText), Ok("fine".to_owned())]);
    }

    #[test]
    fn a_new_connection_does_not_end_the_old_ones_line() {
        let mut lines = Lines::new(80);
        cut(&mut lines, b"half a li");
        lines.clear();
        assert_eq!(cut(&mut lines, b"whole\n"), ok(&["whole"]));
    }

    #[test]
    fn reads_a_sentence() {
        let sentence = nmea(GGA).expect("a valid sentence");
        assert_eq!((sentence.talker(), sentence.kind()), ("GP", "GGA"));
        assert_eq!([1, 2, 3].map(|n| sentence.field(n)), [Some("123519"), Some("4807.038"), Some("N")]);
        assert_eq!([0, 13, 14, 15].map(|n| sentence.field(n)), [None, Some(""), Some(""), None]);
        let own = nmea("$PMTK010,001*2E").expect("a valid sentence");
        assert_eq!((own.talker(), own.kind(), own.field(1)), ("P", "MTK010", Some("001")));
        let bare = nmea("$GPGGA*56").expect("a valid sentence");
        assert_eq!((bare.kind(), bare.field(1)), ("GGA", None));
    }

    #[test]
    fn refuses_what_is_damaged() {
        let cases = [
            ("GPGGA,1*00", FrameError::NoStart),
            ("", FrameError::NoStart),
            ("$GPGGA,123519", FrameError::NoChecksum),
            ("$GPGGA,123519*4", FrameError::NoChecksum),
            ("$GPGGA,123519*+4", FrameError::NoChecksum),
            ("$GPGGA*57", FrameError::Checksum { carried: 0x57, computed: 0x56 }),
            ("$*00", FrameError::NoName),
            ("$GP*17", FrameError::NoName),
            ("$é,*46", FrameError::NoName),
        ];
        for (line, error) in cases {
            assert_eq!(nmea(line), Err(error), "{line}");
        }
        // Any one character changed is found out.
        for at in 1..GGA.len() {
            let mut bytes = GGA.as_bytes().to_vec();
            bytes[at] ^= 1;
            let damaged = String::from_utf8(bytes).expect("still ASCII");
            assert!(nmea(&damaged).is_err(), "{damaged}");
        }
    }

    #[test]
    fn takes_any_bytes() {
        let mut random = fastrand::Rng::with_seed(3);
        let alphabet = b"$*,PGA05\r\n\xC3\xA9";
        let mut lines = Lines::new(20);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..random.usize(..40)).map(|_| alphabet[random.usize(..alphabet.len())]).collect();
            lines.push(&bytes, |line| {
                if let Ok(line) = line {
                    assert!(!line.is_empty() && line.len() <= 20 && !line.contains('\n'));
                    if let Ok(sentence) = nmea(line) {
                        assert!(!sentence.kind().is_empty());
                        assert_eq!((0..50).filter_map(|n| sentence.field(n)).count(), line.matches(',').count());
                    }
                }
            });
            assert!(lines.held.len() <= 21);
        }
    }
}
