//! As much of PromQL as the checks of dashboards and rules need: where metrics stand, their matchers, and what is
//! applied to a range.

/// A selector as it stands in a query.
#[derive(Debug, PartialEq, Eq)]
pub struct Selector<'a> {
    /// The metric's name.
    pub metric: &'a str,
    /// Label, operator and value of each matcher.
    pub matchers: Vec<(&'a str, &'a str, &'a str)>,
    /// The range in brackets, where there is one.
    pub range: Option<&'a str>,
    /// The function whose argument it directly is.
    pub function: Option<&'a str>,
}

const fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':')
}

/// All selectors whose metric `wanted` says to be one.
pub fn selectors<'a>(query: &'a str, wanted: impl Fn(&str) -> bool) -> Vec<Selector<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut quoted = false;
    while let Some(c) = query[at..].chars().next() {
        if c == '"' {
            quoted = !quoted;
        }
        if quoted || !(c.is_ascii_alphabetic() || c == '_') {
            at += c.len_utf8();
            continue;
        }
        let end = query[at..].find(|c| !is_name(c)).map_or(query.len(), |n| at + n);
        if wanted(&query[at..end]) {
            found.push(selector(query, at, end));
        }
        at = end;
    }
    found
}

fn selector(query: &str, start: usize, end: usize) -> Selector<'_> {
    let mut rest = &query[end..];
    let mut matchers = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        let close = inner.find('}').expect("a selector is closed");
        matchers =
            inner[..close].split_terminator("\",").flat_map(|one| one.split("\", ")).map(matcher).collect();
        rest = &inner[close + 1..];
    }
    let range = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')).map(|(range, _)| range);
    let before = query[..start].trim_end().strip_suffix('(').unwrap_or("");
    let name = before.len() - before.chars().rev().take_while(|c| is_name(*c)).count();
    let function = Some(&before[name..]).filter(|function| !function.is_empty());
    Selector { metric: &query[start..end], matchers, range, function }
}

fn matcher(text: &str) -> (&str, &str, &str) {
    let text = text.trim();
    let at = text.find(['=', '!']).unwrap_or_else(|| panic!("not a matcher: {text}"));
    let (label, rest) = text.split_at(at);
    let (operator, value) = rest.split_once('"').unwrap_or_else(|| panic!("a value without quotes: {text}"));
    (label.trim(), operator.trim(), value.trim_end_matches('"'))
}

#[test]
fn selectors_are_found_with_matchers_range_and_function() {
    let query =
        r#"sum by (a) (rate(x_total{b="c{",d=~"e|f"}[5m])) / on (job) y{} + "x_total""#.replace("c{", "c");
    assert_eq!(
        selectors(&query, |name| name == "x_total" || name == "y"),
        [
            Selector {
                metric: "x_total",
                matchers: vec![("b", "=", "c"), ("d", "=~", "e|f")],
                range: Some("5m"),
                function: Some("rate"),
            },
            Selector { metric: "y", matchers: vec![], range: None, function: None },
        ]
    );
}
