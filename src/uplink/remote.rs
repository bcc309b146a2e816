//! Text that a cloud or a proxy has written, on its way to the log and the status page.

/// Of one text, no more characters are shown.
const MOST: usize = 200;

/// The text without control characters, or those that turn the direction of writing, and not too long: nobody far away
/// writes lines of their own into the log.
pub(super) fn shown(text: &str) -> String {
    let is_fit = |c: &char| {
        !c.is_control() && !matches!(c, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    let mut fit = text.chars().filter(is_fit);
    let mut shown: String = fit.by_ref().take(MOST).collect();
    if fit.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_one_short_line() {
        assert_eq!(shown("no\r\n\u{1b}[31m \u{202e}way\u{85}, Zoë"), "no[31m way, Zoë");
        assert_eq!(shown(&"ä".repeat(MOST)), "ä".repeat(MOST));
        assert_eq!(shown(&"ä".repeat(MOST + 1)), "ä".repeat(MOST) + "…");
    }
}
