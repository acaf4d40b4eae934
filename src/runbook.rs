//! Which runbook page explains a termination, and the link to it.

use std::fmt::Write;

use crate::termination::Termination;

/// The path under which the exporter serves its own pages.
pub const OWN_BASE: &str = "/runbooks/";

/// Makes links to runbook pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runbooks {
    base: String,
}

impl Default for Runbooks {
    fn default() -> Self {
        Self::new(OWN_BASE)
    }
}

impl Runbooks {
    /// Links that begin with `base`; a slash is added where it has none.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self { base: format!("{}/", base.trim_end_matches('/')) }
    }

    /// The page for this termination, with its container as parameters.
    #[must_use]
    pub fn link(&self, termination: &Termination) -> String {
        let subject = &termination.subject;
        let mut link = format!("{}{}", self.base, page(termination));
        let parameters = [
            ("?namespace=", &subject.workload.namespace),
            ("&workload_type=", &subject.workload.workload_type),
            ("&workload=", &subject.workload.name),
            ("&container=", &subject.container),
        ];
        for (name, value) in parameters {
            link.push_str(name);
            push_encoded(&mut link, value);
        }
        link
    }
}

/// The name of the page: one for each exit code that has its own meaning, one for all other signals, one for
/// what only Windows reports, and one for the rest.
#[must_use]
pub fn page(termination: &Termination) -> &'static str {
    let code = termination.outcome.exit_code;
    match code.0 {
        Some(0) => "0",
        Some(1) => "1",
        Some(2) => "2",
        Some(code) if termination.windows && !(0..=255).contains(&code) => "windows",
        Some(126) => "126",
        Some(127) => "127",
        Some(128) => "128",
        Some(134) => "134",
        Some(137) => "137",
        Some(139) => "139",
        Some(143) => "143",
        Some(255) => "255",
        Some(_) if termination.signal().is_some() => "signals",
        Some(_) | None => "other",
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn push_encoded(out: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::tests::termination;
    use crate::termination::ExitCode;

    #[test]
    fn each_exit_code_has_its_page() {
        for (code, windows, expected) in [
            (Some(0), false, "0"),
            (Some(1), false, "1"),
            (Some(2), false, "2"),
            (Some(3), false, "other"),
            (Some(126), false, "126"),
            (Some(127), false, "127"),
            (Some(128), false, "128"),
            (Some(129), false, "signals"),
            (Some(134), false, "134"),
            (Some(137), false, "137"),
            (Some(139), false, "139"),
            (Some(143), false, "143"),
            (Some(159), false, "signals"),
            (Some(160), false, "other"),
            (Some(255), false, "255"),
            (None, false, "other"),
            (Some(-1), false, "other"),
            (Some(-1_073_741_819), true, "windows"),
            (Some(1), true, "1"),
            (Some(129), true, "other"),
        ] {
            let mut termination = termination("web");
            termination.outcome.exit_code = ExitCode(code);
            termination.windows = windows;
            assert_eq!(page(&termination), expected, "{code:?} on windows: {windows}");
        }
    }

    #[test]
    fn links_carry_the_container_percent_encoded() {
        let mut termination = termination("web");
        assert_eq!(
            Runbooks::default().link(&termination),
            "/runbooks/137?namespace=shop&workload_type=deployment&workload=web&container=app"
        );
        termination.subject.workload.name = "a b&c=d/é\"\n".into();
        assert_eq!(
            Runbooks::new("https://example.org/books").link(&termination),
            "https://example.org/books/137?namespace=shop&workload_type=deployment\
             &workload=a%20b%26c%3Dd%2F%C3%A9%22%0A&container=app"
        );
    }
}
