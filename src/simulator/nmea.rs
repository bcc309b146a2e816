//! A GPS receiver that talks unasked: NMEA 0183 sentences, a fix each second, and at times the noise of a real line.

use std::f64::consts::TAU;
use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{interval, timeout};

use super::pty::Pty;
use crate::clock::Timestamp;

/// One fix a second, as most receivers do.
const PERIOD: Duration = Duration::from_secs(1);

/// One line in so many is damaged.
const NOISE: usize = 25;

/// Where the receiver is, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fix {
    /// Degrees, north positive.
    pub latitude: f64,
    /// Degrees, east positive.
    pub longitude: f64,
    /// Metres above the sea.
    pub altitude: f64,
    /// Knots over ground.
    pub speed: f64,
    /// Degrees over ground, clockwise from north.
    pub course: f64,
}

impl Fix {
    /// A ferry's round in Kiel's harbour, a quarter of an hour long, `elapsed` after the start.
    pub fn on_the_round(elapsed: Duration) -> Self {
        let angle = elapsed.as_secs_f64() / 900.0 * TAU;
        Self {
            latitude: 54.3300 + 0.0045 * angle.sin(),
            longitude: 10.1600 + 0.0077 * angle.cos(),
            altitude: 3.0 + 0.3 * (angle * 40.0).sin(),
            speed: 6.8 + 0.4 * (angle * 9.0).sin(),
            // Counter-clockwise from the eastern end, where it goes north.
            course: (-angle.to_degrees()).rem_euclid(360.0),
        }
    }

    /// The sentences GGA and RMC of a GPS talker, each with checksum, CR and LF.
    pub fn sentences(&self, at: Timestamp) -> [String; 2] {
        let (time, date) = utc(at);
        let latitude = ddmm(self.latitude, 2, ["N", "S"]);
        let longitude = ddmm(self.longitude, 3, ["E", "W"]);
        let Self { altitude, speed, course, .. } = self;
        [
            sealed(&format!("GPGGA,{time},{latitude},{longitude},1,09,0.9,{altitude:.1},M,44.2,M,,")),
            sealed(&format!("GPRMC,{time},A,{latitude},{longitude},{speed:.1},{course:.1},{date},,,A")),
        ]
    }
}

/// Talks into `line` as long as the future is polled. Sentences that nobody has read after a second are gone, as they
/// are from a port that nobody has open.
///
/// # Errors
/// When the line fails.
pub async fn talk(mut line: Pty, mut random: fastrand::Rng) -> io::Result<()> {
    let mut ticks = interval(PERIOD);
    let start = ticks.tick().await;
    loop {
        line.discard_unread()?;
        for sentence in Fix::on_the_round(start.elapsed()).sentences(Timestamp::now()) {
            let mut bytes = sentence.into_bytes();
            if random.usize(..NOISE) == 0 {
                damage(&mut bytes, &mut random);
            }
            if let Ok(written) = timeout(PERIOD, line.write_all(&bytes)).await {
                written?;
            }
        }
        ticks.tick().await;
    }
}

/// Cuts, garbles or precedes a line with rubbish.
fn damage(line: &mut Vec<u8>, random: &mut fastrand::Rng) {
    let middle = random.usize(1..line.len() - 2);
    match random.u8(..3) {
        0 => line.truncate(middle),
        1 => line[middle] ^= 0x04,
        _ => drop(line.splice(..0, [0x00, 0xFF, 0x80, b'$', 0x1B])),
    }
}

/// `$`, the text, `*`, the XOR of the text's bytes in hexadecimal, CR and LF (NMEA 0183, 5.3).
fn sealed(text: &str) -> String {
    let sum = text.bytes().fold(0, |sum, byte| sum ^ byte);
    format!("${text}*{sum:02X}\r\n")
}

/// Degrees and decimal minutes, and the hemisphere: `5419.8000,N`.
fn ddmm(degrees: f64, digits: usize, [positive, negative]: [&str; 2]) -> String {
    // In ten-thousandths of a minute, so that no rounding makes sixty minutes.
    let total = (degrees.abs() * 600_000.0).round() as u64;
    let (whole, minutes) = (total / 600_000, total % 600_000);
    let hemisphere = if degrees < 0.0 { negative } else { positive };
    format!("{whole:0digits$}{:02}.{:04},{hemisphere}", minutes / 10_000, minutes % 10_000)
}

/// `hhmmss.ss` and `ddmmyy`.
fn utc(at: Timestamp) -> (String, String) {
    // 2026-11-20T10:00:00.123Z
    let text = at.to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let time = format!("{}.{}", &digits[8..14], &digits[14..16]);
    (time, format!("{}{}{}", &digits[6..8], &digits[4..6], &digits[2..4]))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::{BufRead, BufReader};

    use super::*;

    const AT: Timestamp = Timestamp(1_763_632_800_123);

    fn checksum_holds(line: &str) -> bool {
        let Some((text, sum)) = line.trim_end().strip_prefix('$').and_then(|line| line.split_once('*')) else {
            return false;
        };
        u8::from_str_radix(sum, 16) == Ok(text.bytes().fold(0, |sum, byte| sum ^ byte))
    }

    #[test]
    fn sentences_read_as_the_standard_has_them() {
        let fix = Fix { latitude: 48.1173, longitude: -11.516_666_7, altitude: 545.4, speed: 22.4, course: 84.4 };
        let [gga, rmc] = fix.sentences(AT);
        assert_eq!(gga, "$GPGGA,100000.12,4807.0380,N,01131.0000,W,1,09,0.9,545.4,M,44.2,M,,*7C\r\n");
        assert_eq!(rmc, "$GPRMC,100000.12,A,4807.0380,N,01131.0000,W,22.4,84.4,201125,,,A*45\r\n");
        assert!(checksum_holds(&gga) && checksum_holds(&rmc));
    }

    #[test]
    fn sixty_minutes_are_a_degree() {
        assert_eq!(ddmm(9.999_999_99, 3, ["E", "W"]), "01000.0000".to_owned() + ",E");
        assert_eq!(ddmm(-0.5, 2, ["N", "S"]), "0030.0000,S");
    }

    #[test]
    fn the_round_is_slow_and_closes() {
        let at = |seconds| Fix::on_the_round(Duration::from_secs(seconds));
        for second in 0..900 {
            let (a, b) = (at(second), at(second + 1));
            let metres = (a.latitude - b.latitude).hypot((a.longitude - b.longitude) * 0.583) * 111_000.0;
            assert!((1.0..10.0).contains(&metres), "{metres} m in second {second}");
        }
        assert!((at(0).latitude - at(900).latitude).abs() < 1e-9);
    }

    #[test]
    fn damage_never_passes_the_checksum() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..500 {
            let [whole, _] = Fix::on_the_round(Duration::ZERO).sentences(AT);
            let mut line = whole.clone().into_bytes();
            damage(&mut line, &mut random);
            assert_ne!(line, whole.as_bytes());
            assert!(!checksum_holds(&String::from_utf8_lossy(&line)));
        }
    }

    #[tokio::test]
    async fn talks_to_whoever_opens_the_port() {
        let line = Pty::open().unwrap();
        let port = OpenOptions::new().read(true).open(line.path()).unwrap();
        let talker = tokio::spawn(talk(line, fastrand::Rng::with_seed(7)));
        let lines = tokio::task::spawn_blocking(|| BufReader::new(port).lines().take(2).collect::<Vec<_>>());
        let lines: Vec<String> = lines.await.unwrap().into_iter().map(Result::unwrap).collect();
        talker.abort();
        assert!(lines[0].starts_with("$GPGGA,") && checksum_holds(&lines[0]), "{lines:?}");
        assert!(lines[1].starts_with("$GPRMC,") && checksum_holds(&lines[1]), "{lines:?}");
    }
}
