//! What is kept and what a query returns.

use super::*;
use crate::publish::tests::termination;

fn board() -> Board {
    let mut board = Board::default();
    let mut add = |name: &str, namespace: &str, code: Option<i32>, cause| {
        let mut row = termination(name);
        row.subject.workload.namespace = namespace.into();
        row.outcome.exit_code = ExitCode(code);
        row.outcome.cause = cause;
        board.add(row);
    };
    add("a", "one", Some(137), Cause::OomLimit);
    add("b", "one", Some(1), Cause::Application);
    add("a", "two", None, Cause::Unknown);
    add("c", "two", Some(137), Cause::LivenessProbe);
    board
}

#[test]
fn filters_narrow_and_the_newest_comes_first() {
    let all = Query::default();
    let text = |text: &str| Some(text.to_owned());
    for (query, expected) in [
        (all.clone(), "two/c two/a one/b one/a"),
        (Query { namespace: text("one"), ..all.clone() }, "one/b one/a"),
        (Query { workload: text("a"), ..all.clone() }, "two/a one/a"),
        (Query { workload: text("a"), namespace: text("two"), ..all.clone() }, "two/a"),
        (Query { exit_code: Some(ExitCode(Some(137))), ..all.clone() }, "two/c one/a"),
        (Query { exit_code: Some(ExitCode::UNKNOWN), ..all.clone() }, "two/a"),
        (Query { cause: Some(Cause::OomLimit), ..all.clone() }, "one/a"),
        (Query { limit: Some(2), ..all.clone() }, "two/c two/a"),
        (Query { limit: Some(1), exit_code: Some(ExitCode(Some(137))), ..all.clone() }, "two/c"),
        (Query { namespace: text("none"), ..all }, ""),
    ] {
        let found = board().query(&query);
        let names =
            found.iter().map(|t| format!("{}/{}", t.subject.workload.namespace, t.subject.workload.name));
        assert_eq!(names.collect::<Vec<_>>().join(" "), expected, "{query:?}");
    }
}

#[test]
fn only_the_last_thousand_are_kept() {
    let mut board = Board::default();
    for i in 0..2500 {
        board.add(termination(&format!("job-{i}")));
    }
    let found = board.query(&Query::default());
    assert_eq!((board.len(), found.len()), (1000, 1000));
    assert_eq!((&*found[0].pod, &*found[999].pod), ("job-2499-0", "job-1500-0"));
}

#[test]
fn rows_use_the_words_of_the_log_and_hide_the_message() {
    let mut termination = termination("web");
    termination.message = Some("secret\n".into());
    let row =
        |messages| serde_json::to_value(Row::new(&termination, &Runbooks::default(), messages)).unwrap();
    let mut expected = serde_json::json!({
        "namespace": "shop",
        "pod": "web-0",
        "node": "node-1",
        "workload_type": "deployment",
        "workload": "web",
        "container": "app",
        "container_type": "container",
        "exit_code": 137,
        "signal": "SIGKILL",
        "reason": "OOMKilled",
        "cause": "oom_limit",
        "evidence": "status",
        "started_at": "2026-01-02T03:04:05Z",
        "finished_at": "2026-01-02T03:05:05Z",
        "ran_for": 60.0,
        "restart_count": 3,
        "image": "registry.example/app:1",
        "runbook": "/runbooks/137?namespace=shop&workload_type=deployment&workload=web&container=app#oom_limit",
    });
    assert_eq!(row(false), expected);
    expected["message"] = "secret\\n".into();
    assert_eq!(row(true), expected);
}
