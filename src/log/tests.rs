//! Whole lines, as a reader of standard error gets them.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;

use super::*;
use crate::publish::tests::termination as killed;
use crate::termination::{Cause, ExitCode, Outcome};

/// Collects what is logged.
#[derive(Clone)]
pub(crate) struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    /// With one subscriber alone, a place in the code that another test's thread reaches first is taken as never enabled:
    /// tracing asks that thread, which has none. With two it asks all subscribers.
    pub(crate) fn new() -> Self {
        static SECOND: OnceLock<Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| Dispatch::new(NoSubscriber::new()));
        Self(Arc::default())
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that `act` logs, without the time of day.
pub(crate) fn lines(format: LogFormat, level: LogLevel, act: impl FnOnce()) -> Vec<String> {
    let capture = Capture::new();
    let writer = capture.clone();
    tracing::subscriber::with_default(subscriber(format, level, move || writer.clone()), act);
    let text = capture.text();
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    let timeless = |line: &str| match format {
        LogFormat::Text => line.split_once(' ').unwrap().1.trim_start().to_owned(),
        LogFormat::Json => line.replacen(&line[14..38], "NOW", 1),
    };
    text.lines().map(timeless).collect()
}

fn one(format: LogFormat, termination: &Termination) -> String {
    let lines = lines(format, LogLevel::Debug, || super::termination(termination, &Runbooks::default()));
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    line.clone()
}

const RUNBOOK: &str =
    "/runbooks/137?namespace=shop&workload_type=deployment&workload=web&container=app#oom_limit";

#[test]
fn a_termination_in_text() {
    let mut termination = killed("web");
    termination.message = Some("out of \"memory\"".into());
    assert_eq!(
        one(LogFormat::Text, &termination),
        format!(
            "INFO termination: namespace=shop pod=web-0 node=node-1 workload_type=deployment workload=web \
             container=app container_type=container exit_code=137 signal=SIGKILL reason=OOMKilled cause=oom_limit \
             evidence=status started_at=2026-01-02T03:04:05Z finished_at=2026-01-02T03:05:05Z ran_for=60.0 \
             restart_count=3 image=registry.example/app:1 message=\"out of \\\"memory\\\"\" runbook=\"{RUNBOOK}\""
        )
    );
}

#[test]
fn a_termination_in_json() {
    let mut termination = killed("web");
    termination.message = Some("bye".into());
    assert_eq!(
        one(LogFormat::Json, &termination),
        format!(
            "{{\"timestamp\":\"NOW\",\"level\":\"INFO\",\"target\":\"termination\",\"namespace\":\"shop\",\
             \"pod\":\"web-0\",\"node\":\"node-1\",\"workload_type\":\"deployment\",\"workload\":\"web\",\
             \"container\":\"app\",\"container_type\":\"container\",\"exit_code\":137,\"signal\":\"SIGKILL\",\
             \"reason\":\"OOMKilled\",\"cause\":\"oom_limit\",\"evidence\":\"status\",\
             \"started_at\":\"2026-01-02T03:04:05Z\",\"finished_at\":\"2026-01-02T03:05:05Z\",\"ran_for\":60.0,\
             \"restart_count\":3,\"image\":\"registry.example/app:1\",\"message\":\"bye\",\"runbook\":\"{RUNBOOK}\"}}"
        )
    );
}

#[test]
fn what_is_not_known_is_null_in_json_and_empty_in_text() {
    let mut termination = killed("web");
    termination.outcome = Outcome::NOT_OBSERVED;
    (termination.started_at, termination.finished_at) = (None, None);
    let json: Value = serde_json::from_str(&one(LogFormat::Json, &termination)).unwrap();
    for name in ["exit_code", "signal", "started_at", "finished_at", "ran_for", "message"] {
        assert_eq!(json.get(name), Some(&Value::Null), "{name}");
    }
    let text = one(LogFormat::Text, &termination);
    assert!(text.contains(" exit_code=\"\" signal=\"\" reason=NotObserved cause=unknown "), "{text}");
}

#[test]
fn any_message_is_one_line_of_valid_json_without_control_characters() {
    let long = "é".repeat(1000);
    for (message, expected) in [
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\u{1b}[31mred\u{7}\u{0}\u{7f}\u{85}", r"\u{1b}[31mred\u{7}\u{0}\u{7f}\u{85}"),
        ("\u{202e}txt\u{2066}\u{2028}\u{feff}", r"\u{202e}txt\u{2066}\u{2028}\u{feff}"),
        ("\",\"level\":\"ERROR\",\"x\":\"", "\",\"level\":\"ERROR\",\"x\":\""),
        ("C:\\temp", "C:\\temp"),
        ("", ""),
        (long.as_str(), &long[..1024]),
    ] {
        let mut termination = killed("web");
        termination.message = Some(message.into());
        let json: serde_json::Map<String, Value> =
            serde_json::from_str(&one(LogFormat::Json, &termination)).unwrap();
        assert_eq!(json.get("message"), Some(&Value::from(expected)));
        assert_eq!(json.get("level"), Some(&Value::from("INFO")));
        assert_eq!(json.len(), 22, "three of the line and nineteen of the contract");
        let text = one(LogFormat::Text, &termination);
        assert!(!text.chars().any(is_dangerous), "{text:?}");
    }
}

#[test]
fn hostile_names_stay_on_their_line() {
    let mut termination = killed("web\nINFO termination: forged\u{202e}");
    termination.image = "a b=\"c\"".into();
    let text = one(LogFormat::Text, &termination);
    assert!(text.contains(r#" workload="web\nINFO termination: forged\u{202e}" "#), "{text}");
    assert!(text.contains(r#" image="a b=\"c\"" "#), "{text}");
}

#[test]
fn expected_ends_are_debug_and_all_others_info() {
    for cause in Cause::ALL {
        let mut termination = killed("web");
        termination.outcome.cause = *cause;
        let logged =
            |level| lines(LogFormat::Text, level, || super::termination(&termination, &Runbooks::default()));
        let expected = matches!(cause.as_str(), "completed" | "pod_completed" | "pod_deleted");
        assert_eq!(logged(LogLevel::Info).len(), usize::from(!expected), "{cause}");
        assert_eq!(logged(LogLevel::Warn).len(), 0, "{cause}");
        let debug = logged(LogLevel::Debug);
        assert!(
            debug[0].starts_with(if expected { "DEBUG termination: " } else { "INFO termination: " }),
            "{debug:?}"
        );
    }
}

#[test]
fn signals_are_named_but_not_on_windows() {
    for (code, windows, expected) in [
        (143, false, "signal=SIGTERM"),
        (143, true, "signal=\"\""),
        (1, false, "signal=\"\""),
        (160, false, "signal=\"\""),
    ] {
        let mut termination = killed("web");
        termination.outcome.exit_code = ExitCode(Some(code));
        termination.windows = windows;
        let text = one(LogFormat::Text, &termination);
        assert!(text.contains(&format!(" {expected} reason=")), "{text}");
    }
}

#[test]
fn other_lines_are_text_with_their_fields() {
    let act = || {
        let error = io::Error::other("it \"broke\"\nbadly");
        tracing::warn!(target: "exitcode_exporter::watch", %error, tries = 3, ok = false, "listing failed");
    };
    assert_eq!(
        lines(LogFormat::Text, LogLevel::Info, act),
        ["WARN exitcode_exporter::watch: listing failed error=\"it \\\"broke\\\"\\nbadly\" tries=3 ok=false"]
    );
    assert_eq!(
        lines(LogFormat::Json, LogLevel::Info, act),
        ["{\"timestamp\":\"NOW\",\"level\":\"WARN\",\"target\":\"exitcode_exporter::watch\",\
          \"message\":\"listing failed\",\"error\":\"it \\\"broke\\\"\\\\nbadly\",\"tries\":3,\"ok\":false}"]
    );
}

#[test]
fn no_key_is_there_twice() {
    let act = || tracing::warn!(target: "exitcode_exporter", level = 1, target = 2, timestamp = 3, "x");
    assert_eq!(
        lines(LogFormat::Json, LogLevel::Info, act),
        ["{\"timestamp\":\"NOW\",\"level\":\"WARN\",\"target\":\"exitcode_exporter\",\"message\":\"x\",\
          \"level_\":1,\"target_\":2,\"timestamp_\":3}"]
    );
}

#[test]
fn levels_are_for_this_crate_and_others_only_warn() {
    let act = || {
        tracing::trace!(target: "exitcode_exporter::core", "own");
        tracing::info!(target: "hyper", "others");
        tracing::warn!(target: "hyper", "others warn");
        tracing::warn!(target: "kube_client::client", "a whole pod with its environment");
        tracing::error!(target: "kube_client::client", "an error");
    };
    assert_eq!(
        lines(LogFormat::Text, LogLevel::Trace, act),
        [
            "TRACE exitcode_exporter::core: own",
            "WARN hyper: others warn",
            "ERROR kube_client::client: an error"
        ]
    );
    assert_eq!(lines(LogFormat::Text, LogLevel::Error, act), ["ERROR kube_client::client: an error"]);
}

#[test]
fn a_line_is_heard_although_a_thread_without_a_subscriber_came_to_its_place_first() {
    let place = || tracing::info!("heard");
    let heard = lines(LogFormat::Text, LogLevel::Info, || {
        std::thread::spawn(place).join().unwrap();
        place();
    });
    assert_eq!(heard, ["INFO exitcode_exporter::log::tests: heard"]);
}
