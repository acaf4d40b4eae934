//! Text from outside, made fit to be shown.

use std::borrow::Cow;

/// The longest beginning of whole characters that is at most `most` bytes.
#[must_use]
pub fn cut(text: &str, most: usize) -> &str {
    let end = (0..=text.len().min(most)).rev().find(|&at| text.is_char_boundary(at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// The text with all that could break a line, steer a terminal or turn the reading direction written as an
/// escape: control characters, line and paragraph separators, bidirectional controls.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_dangerous(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// What [`clean`] writes as an escape.
#[must_use]
pub fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_a_whole_character() {
        for (text, most, expected) in [
            ("abc", 5, "abc"),
            ("abc", 3, "abc"),
            ("abc", 2, "ab"),
            ("aé", 2, "a"),
            ("é", 1, ""),
            ("", 0, ""),
            ("€€", 5, "€"),
        ] {
            assert_eq!(cut(text, most), expected);
        }
    }

    #[test]
    fn only_what_is_dangerous_is_escaped() {
        for (text, expected) in [
            ("plain ünïcödé 漢字 🦀 \\ \"", "plain ünïcödé 漢字 🦀 \\ \""),
            ("a\nb\r\t", r"a\nb\r\t"),
            ("\u{1b}[0m\u{9b}\u{7f}", r"\u{1b}[0m\u{9b}\u{7f}"),
            ("\u{202e}\u{2029}\u{2069}", r"\u{202e}\u{2029}\u{2069}"),
        ] {
            assert_eq!(clean(text), expected);
        }
    }
}
