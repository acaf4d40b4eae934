//! Label sets as text: rendered and escaped once, when a series is born, and kept as its key.
//!
//! The identity of the workload comes first in every key, so all series of a workload are one range of a
//! sorted table, and the table's order is the order of the output.

use crate::termination::{Outcome, PodFailure, Subject, Workload};
use crate::text::{clean, cut};

/// No name in Kubernetes is longer than 253 bytes, no label value longer than 63; what is longer is hostile.
const MAX_VALUE_BYTES: usize = 256;

/// Appends `name="value"`, after a comma if it is not the first.
fn push(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(name);
    out.push_str("=\"");
    // What steers a terminal or turns the reading direction is shown as text: names come from whoever makes a pod.
    push_escaped(out, cut(&clean(cut(value, MAX_VALUE_BYTES)), MAX_VALUE_BYTES));
    out.push('"');
}

/// The three escapes that both formats know.
fn push_escaped(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

/// The identity of a workload: the first labels of each of its series.
pub(super) fn workload(workload: &Workload) -> String {
    let mut out = String::with_capacity(256);
    push(&mut out, "namespace", &workload.namespace);
    push(&mut out, "workload_type", &workload.workload_type);
    push(&mut out, "workload", &workload.name);
    out
}

/// The identity of a container.
pub(super) fn container(subject: &Subject) -> String {
    let mut out = workload(&subject.workload);
    push(&mut out, "container", &subject.container);
    push(&mut out, "container_type", subject.container_type.as_str());
    out
}

/// A container and how it ended.
pub(super) fn outcome(subject: &Subject, outcome: &Outcome, extra_names: &[String]) -> String {
    let mut out = container(subject);
    push(&mut out, "exit_code", &outcome.exit_code.to_string());
    push(&mut out, "reason", outcome.reason.as_str());
    push(&mut out, "cause", outcome.cause.as_str());
    push_extra(&mut out, extra_names, &subject.extra);
    out
}

/// A workload and how a pod of it failed.
pub(super) fn failure<S: AsRef<str>>(
    of: &Workload,
    failure: PodFailure,
    extra_names: &[String],
    extra: &[S],
) -> String {
    let mut out = workload(of);
    push(&mut out, "reason", failure.as_str());
    push_extra(&mut out, extra_names, extra);
    out
}

/// The identity of a node.
pub(super) fn node(name: &str) -> String {
    let mut out = String::with_capacity(64);
    push(&mut out, "node", name);
    out
}

/// A node and who ended a container there.
pub(super) fn node_cause(node: &str, cause: &str) -> String {
    let mut out = node.to_owned();
    push(&mut out, "cause", cause);
    out
}

/// The label sets in which all values read "overflow".
pub(super) fn overflow(names: &[&str], extra_names: &[String]) -> String {
    let mut out = String::new();
    for name in names.iter().copied().chain(extra_names.iter().map(String::as_str)) {
        push(&mut out, name, "overflow");
    }
    out
}

fn push_extra<S: AsRef<str>>(out: &mut String, names: &[String], values: &[S]) {
    for (i, name) in names.iter().enumerate() {
        push(out, name, values.get(i).map_or("", AsRef::as_ref));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &str) -> String {
        let mut out = String::new();
        push(&mut out, "x", value);
        out
    }

    #[test]
    fn values_are_escaped_and_stay_on_one_line() {
        assert_eq!(one(r#"a"b\c"#), r#"x="a\"b\\c""#);
        assert_eq!(one("a\nb"), r#"x="a\\nb""#);
        assert_eq!(one("a\",y=\"b"), r#"x="a\",y=\"b""#);
        assert_eq!(one("\u{1}\r\u{202e}"), r#"x="\\u{1}\\r\\u{202e}""#);
    }

    #[test]
    fn hostile_lengths_are_cut_at_a_whole_character() {
        assert_eq!(one(&"a".repeat(1 << 20)).len(), MAX_VALUE_BYTES + 4);
        let euro = one(&"€".repeat(1000));
        assert_eq!(euro.len(), 255 + 4, "85 characters of three bytes");
        assert_eq!(one(&"\u{1}".repeat(5000)).len(), 256 + 52 + 4, "five bytes each, one of them escaped");
        assert_eq!(one(&"\"".repeat(5000)).len(), 2 * MAX_VALUE_BYTES + 4);
    }

    #[test]
    fn missing_extra_values_read_empty() {
        let mut out = String::from("a=\"1\"");
        push_extra(&mut out, &["team".into(), "pod".into()], &["x"]);
        assert_eq!(out, r#"a="1",team="x",pod="""#);
    }
}
