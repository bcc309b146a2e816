//! Numbers, times and values as people read them. Pure.

use std::time::Duration;

use crate::reading::Value;

/// What stands for nothing.
pub(crate) const NONE: &str = "–";

/// `12 345`, grouped by narrow spaces that do not break.
pub(crate) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `1 message`, `12 345 messages`.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}

/// `512 MiB`, `1.5 GiB`: never more than four digits.
pub(crate) fn bytes(n: u64) -> String {
    let (mut size, mut units) = (n as f64, ["KiB", "MiB", "GiB", "TiB"].iter());
    let mut unit = "B";
    while size >= 1024.0 {
        let Some(next) = units.next() else { break };
        (size, unit) = (size / 1024.0, next);
    }
    if size >= 10.0 || size.fract() < 0.05 { format!("{size:.0} {unit}") } else { format!("{size:.1} {unit}") }
}

/// `45 s`, `12 min`, `3 h 20 min`, `5 d 3 h`. The page's script has the same.
pub(crate) fn span(span: Duration) -> String {
    let s = span.as_secs();
    match (s, s / 60, s / 3600, s / 86_400) {
        (_, 0, _, _) => format!("{s} s"),
        (_, m @ 1..60, _, _) => format!("{m} min"),
        (_, m, h @ 1..24, _) => format!("{h} h {} min", m % 60),
        (_, _, h, d) => format!("{d} d {} h", h % 24),
    }
}

/// `+5 h 0 min`, `−1.5 s`: how far a clock was set, from milliseconds.
pub(crate) fn step(by: i64) -> String {
    let sign = if by < 0 { '\u{2212}' } else { '+' };
    match by.unsigned_abs() {
        ms @ 0..60_000 => format!("{sign}{:.1} s", ms as f64 / 1e3),
        ms => format!("{sign}{}", span(Duration::from_millis(ms))),
    }
}

/// `1.2 ms`, `45 ms`, `1.5 s`, from microseconds.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// A part of 1 as `42 %`.
pub(crate) fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

/// A value without the noise of binary fractions: at most ten digits count.
pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::Null => NONE.into(),
        Value::Bool(true) => "on".into(),
        Value::Bool(false) => "off".into(),
        Value::Float(x) => float(*x),
        Value::Int(_) | Value::Text(_) => value.to_string(),
    }
}

fn float(x: f64) -> String {
    // What came as 32 bits is shown with the digits that 32 bits hold.
    let narrow = x as f32;
    let shown = if f64::from(narrow) == x { narrow.to_string() } else { format!("{x:.9e}") };
    let shown = shown.parse().unwrap_or(x);
    if shown == 0.0 {
        "0".into()
    } else if (1e-4..1e15).contains(&f64::abs(shown)) {
        shown.to_string()
    } else {
        format!("{shown:e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(count(1, "message", "messages"), "1 message");
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!((bytes(0), bytes(1023), bytes(512 << 20)), ("0 B".into(), "1023 B".into(), "512 MiB".into()));
        assert_eq!((bytes(3 << 29), bytes(u64::MAX)), ("1.5 GiB".into(), "16777216 TiB".into()));
        let spans = [0, 59, 60, 3599, 3600, 86_399, 86_400, 90_000].map(|s| span(Duration::from_secs(s)));
        assert_eq!(spans, ["0 s", "59 s", "1 min", "59 min", "1 h 0 min", "23 h 59 min", "1 d 0 h", "1 d 1 h"]);
        assert_eq!([step(1500), step(-250), step(-18_000_000)], ["+1.5 s", "\u{2212}0.2 s", "\u{2212}5 h 0 min"]);
        assert_eq!([micros(900), micros(45_200), micros(1_500_000)], ["0.9 ms", "45 ms", "1.5 s"]);
    }

    #[test]
    fn values_lose_only_noise() {
        let float = |x| value(&Value::Float(x));
        assert_eq!([float(2314.0 * 0.1), float(-0.0), float(21.0)], ["231.4", "0", "21"]);
        assert_eq!([float(6.02e23), float(1.5e-9), float(123_456.789)], ["6.02e23", "1.5e-9", "123456.789"]);
        assert_eq!(float(f64::from(231.7_f32)), "231.7");
        assert_eq!([value(&Value::Null), value(&Value::Bool(true)), value(&Value::Int(7))], ["–", "on", "7"]);
    }
}
