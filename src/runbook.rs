//! The runbooks: which page explains a termination, the link to it, and the pages themselves.

pub mod fill;
pub mod html;
pub mod library;

use std::fmt::Write;

use library::Page;

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

    /// The base: a path if it is the exporter's own.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The page for this termination, with its container as parameters, at the section about its cause where there
    /// is one.
    #[must_use]
    pub fn link(&self, termination: &Termination) -> String {
        let subject = &termination.subject;
        let page = page(termination);
        let mut link = format!("{}{page}", self.base);
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
        let cause = termination.outcome.cause.as_str();
        if Page::find(page).is_some_and(|page| page.has_anchor(cause)) {
            link.push('#');
            link.push_str(cause);
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
    use crate::termination::{Cause, ExitCode};

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
            assert!(Page::find(expected).is_some(), "{expected} is there");
        }
    }

    #[test]
    fn links_carry_the_container_percent_encoded() {
        let mut termination = termination("web");
        assert_eq!(
            Runbooks::default().link(&termination),
            "/runbooks/137?namespace=shop&workload_type=deployment&workload=web&container=app#oom_limit"
        );
        termination.subject.workload.name = "a b&c=d/é\"\n".into();
        assert_eq!(
            Runbooks::new("https://example.org/books").link(&termination),
            "https://example.org/books/137?namespace=shop&workload_type=deployment\
             &workload=a%20b%26c%3Dd%2F%C3%A9%22%0A&container=app#oom_limit"
        );
    }

    #[test]
    fn every_cause_that_a_code_can_have_leads_to_a_section() {
        for (code, causes) in [
            (0, &[Cause::Completed, Cause::LivenessProbe, Cause::PodDeleted, Cause::PodCompleted][..]),
            (1, &[Cause::Application, Cause::OomLimit, Cause::LivenessProbe, Cause::Drained]),
            (2, &[Cause::Application, Cause::OomLimit, Cause::StartupProbe]),
            (126, &[Cause::Application, Cause::StartFailed]),
            (127, &[Cause::Application, Cause::StartFailed]),
            (128, &[Cause::Application, Cause::StartFailed]),
            (134, &[Cause::FatalSignal]),
            (139, &[Cause::FatalSignal]),
            (143, &[Cause::Killed, Cause::LivenessProbe, Cause::PodDeleted, Cause::Drained]),
            (255, &[Cause::Lost, Cause::Application]),
            (42, &[Cause::Application, Cause::GracePeriodExceeded, Cause::OomLimit]),
            (132, &[Cause::FatalSignal, Cause::Killed]),
        ] {
            for &cause in causes {
                let mut termination = termination("web");
                termination.outcome.exit_code = ExitCode(Some(code));
                termination.outcome.cause = cause;
                let link = Runbooks::default().link(&termination);
                assert!(link.ends_with(&format!("#{cause}")), "{code} {cause}: {link}");
            }
        }
        for &cause in Cause::ALL {
            let mut termination = termination("web");
            termination.outcome.cause = cause;
            let has = !matches!(
                cause,
                Cause::StartFailed
                    | Cause::Completed
                    | Cause::FatalSignal
                    | Cause::Application
                    | Cause::Unknown
            );
            let link = Runbooks::default().link(&termination);
            assert_eq!(link.ends_with(&format!("#{cause}")), has, "137 {cause}: {link}");
        }
    }
}
