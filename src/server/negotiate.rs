//! Content negotiation (RFC 9110, 12.5), for the two formats and the one encoding there are.

use crate::exposition::Format;
use crate::runbook::library::Language;

/// One member of an Accept or Accept-Encoding list.
struct Choice<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// In thousandths.
    quality: u16,
}

/// The format for an Accept header. What is not known (protobuf comes first from Prometheus) is passed over, and
/// a client that takes nothing of what there is gets text, as from other exporters.
pub(super) fn format(accept: &str) -> Format {
    let choices = choices(accept);
    let text = rank(&choices, "text", "plain", "0.0.4");
    let openmetrics = rank(&choices, "application", "openmetrics-text", "1.0.0");
    match (text, openmetrics) {
        (_, None) => Format::Text,
        (None, Some(_)) => Format::OpenMetrics,
        // The better quality; then the one named first; then (both by one wildcard) text.
        (Some((text, at)), Some((openmetrics, other))) => {
            if openmetrics > text || (openmetrics == text && other < at) {
                Format::OpenMetrics
            } else {
                Format::Text
            }
        }
    }
}

/// The quality that a client gives a type, by the most specific range that holds it, and the place of that range
/// in the list; `None` if it does not take the type.
fn rank(choices: &[Choice<'_>], kind: &str, subtype: &str, version: &str) -> Option<(u16, usize)> {
    let mut best: Option<(u8, u16, usize)> = None;
    for (at, choice) in choices.iter().enumerate() {
        let Some(specificity) = specificity(choice, kind, subtype, version) else { continue };
        // Of two that are alike the better one counts.
        if best.is_none_or(|(s, quality, _)| (specificity, choice.quality) > (s, quality)) {
            best = Some((specificity, choice.quality, at));
        }
    }
    best.filter(|(_, quality, _)| *quality > 0).map(|(_, quality, at)| (quality, at))
}

fn specificity(choice: &Choice<'_>, kind: &str, subtype: &str, version: &str) -> Option<u8> {
    let (range_kind, range_subtype) = choice.name.split_once('/')?;
    let (range_kind, range_subtype) = (range_kind.trim_end(), range_subtype.trim_start());
    match (range_kind, range_subtype) {
        ("*", "*") => return Some(0),
        (k, "*") if k.eq_ignore_ascii_case(kind) => return Some(1),
        (k, s) if k.eq_ignore_ascii_case(kind) && s.eq_ignore_ascii_case(subtype) => {}
        _ => return None,
    }
    match choice.parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("version")) {
        Some((_, wanted)) if *wanted == version => Some(3),
        Some(_) => None,
        None => Some(2),
    }
}

/// Whether to answer an Accept-Encoding header with gzip: if it is taken, and not less than identity.
pub(super) fn gzip(accept_encoding: &str) -> bool {
    let choices = choices(accept_encoding);
    let quality = |names: &[&str]| {
        let named = choices.iter().filter(|c| names.iter().any(|name| c.name.eq_ignore_ascii_case(name)));
        named.map(|c| c.quality).max()
    };
    let gzip = quality(&["gzip", "x-gzip"]).or(quality(&["*"])).unwrap_or(0);
    gzip > 0 && gzip >= quality(&["identity"]).unwrap_or(0)
}

/// The language for an Accept-Language header: the one with the better quality, then the one named first, and English
/// where neither is named.
pub(super) fn language(accept_language: &str) -> Language {
    let choices = choices(accept_language);
    let rank = |language: Language| {
        let named = choices.iter().enumerate().filter(|(_, choice)| {
            choice.quality > 0
                && choice.name.split('-').next().is_some_and(|tag| tag.eq_ignore_ascii_case(language.tag()))
        });
        named.map(|(at, choice)| (choice.quality, usize::MAX - at)).max()
    };
    if rank(Language::Korean) > rank(Language::English) { Language::Korean } else { Language::English }
}

fn choices(list: &str) -> Vec<Choice<'_>> {
    split_unquoted(list, ',').filter_map(choice).collect()
}

fn choice(item: &str) -> Option<Choice<'_>> {
    let mut parts = split_unquoted(item, ';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let mut choice = Choice { name, parameters: Vec::new(), quality: 1000 };
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (name.trim_end(), value.trim_start().trim_matches('"'));
        if name.eq_ignore_ascii_case("q") {
            choice.quality = quality(value)?;
        } else {
            choice.parameters.push((name, value));
        }
    }
    Some(choice)
}

/// Thousandths; a quality that is none makes its range void.
fn quality(text: &str) -> Option<u16> {
    let value: f32 = text.parse().ok().filter(|q: &f32| (0.0..=1.0).contains(q))?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 0 and 1000
    Some((value * 1000.0).round() as u16)
}

/// Splits where the separator stands outside of quotes.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_accept_headers_get_what_they_prefer() {
        let (text, om) = (Format::Text, Format::OpenMetrics);
        for (accept, expected) in [
            // Prometheus 2.42.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                om,
            ),
            // Prometheus 2.42 with native histograms.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                om,
            ),
            // Prometheus 3: UTF-8 names, then the same with protobuf first, then PrometheusText0.0.4 alone.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                om,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                om,
            ),
            ("text/plain;version=0.0.4;q=0.2,*/*;q=0.1", text),
            (
                "application/openmetrics-text; version=1.0.0; escaping=underscores;q=0.6,text/plain;version=0.0.4;q=0.3",
                om,
            ),
            // Prometheus before 2.41 knows OpenMetrics 0.0.1 only.
            ("application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", text),
            // Browsers and curl.
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", text),
            ("*/*", text),
            ("", text),
        ] {
            assert_eq!(format(accept), expected, "{accept}");
        }
    }

    #[test]
    fn qualities_and_specific_ranges_decide() {
        let (text, om) = (Format::Text, Format::OpenMetrics);
        for (accept, expected) in [
            ("application/openmetrics-text", om),
            ("APPLICATION/OpenMetrics-Text;Version=1.0.0", om),
            ("application/openmetrics-text;version=\"1.0.0\"", om),
            ("application/openmetrics-text;version=2.0.0", text),
            ("application/openmetrics-text;q=0", text),
            ("application/openmetrics-text;q=0,*/*", text),
            ("application/openmetrics-text;q=0.5,text/plain;q=0.4", om),
            ("application/openmetrics-text;q=0.4,text/plain;q=0.5", text),
            ("application/openmetrics-text;q=0.500,text/plain;q=0.5", om),
            ("text/plain;q=0.5,application/openmetrics-text;q=0.5", text),
            ("application/openmetrics-text;q=0.2,*/*;q=0.5", text),
            ("text/plain;q=0,*/*", om),
            ("text/*;q=0.2,application/*", om),
            ("application/*", om),
            ("text/plain;version=1.0.0", text),
            ("application/vnd.google.protobuf", text),
            ("application/json", text),
            ("application/openmetrics-text;q=high,text/plain;q=0.1", text),
            ("application/openmetrics-text;q=1.5", text),
            ("application/openmetrics-text;q=NaN", text),
            ("x/y;a=\"1,application/openmetrics-text\"", text),
            (",,;;,/,*", text),
        ] {
            assert_eq!(format(accept), expected, "{accept}");
        }
    }

    #[test]
    fn gzip_only_where_it_is_taken() {
        for (accept, expected) in [
            ("gzip", true),
            ("GZIP", true),
            ("x-gzip", true),
            ("gzip, deflate, br", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, *", false),
            ("gzip;q=0.001", true),
            ("*", true),
            ("*;q=0", false),
            ("identity", false),
            ("identity;q=1, gzip;q=0.5", false),
            ("identity;q=0.5, gzip;q=0.5", true),
            ("identity;q=0, *", true),
            ("deflate, br", false),
            ("gzip;q=x", false),
            ("", false),
        ] {
            assert_eq!(gzip(accept), expected, "{accept}");
        }
    }

    #[test]
    fn korean_only_where_it_is_preferred() {
        for (accept, expected) in [
            ("ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7", Language::Korean),
            ("KO", Language::Korean),
            ("en-US,en;q=0.9,ko;q=0.8", Language::English),
            ("en;q=0.5,ko;q=0.6", Language::Korean),
            ("ko,en", Language::Korean),
            ("en,ko", Language::English),
            ("de,ko;q=0.1", Language::Korean),
            ("ko;q=0", Language::English),
            ("de-DE,*;q=0.5", Language::English),
            ("kok", Language::English),
            ("*", Language::English),
            ("", Language::English),
        ] {
            assert_eq!(language(accept), expected, "{accept}");
        }
    }
}
