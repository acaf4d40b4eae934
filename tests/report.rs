//! The report, whole outputs of it, on a simulated API server.

#![cfg(test)]

mod support;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use exitcode_exporter::options::{Command, Options};
use exitcode_exporter::report::table::Screen;
use exitcode_exporter::report::{self, Printed, ReportError};
use exitcode_exporter::sim::{ApiError, ApiServer, Cluster, ClusterSettings, Fault, Matcher, Resource, Verb};
use exitcode_exporter::time::Timestamp;
use serde_json::{Value, json};
use support::pods::{EventBuilder, PodBuilder, START, killing, liveness_kill, pod, stopping};

/// The report is of two hours after [`START`].
const NOW: Timestamp = Timestamp(START + 7_200_000);

/// A terminal so wide, without colours.
fn screen(width: usize) -> Screen {
    Screen { width: Some(width), colours: false }
}

async fn ask(server: &ApiServer, arguments: &str, screen: Screen) -> Result<Printed, ReportError> {
    let program = if arguments.starts_with("kubectl") { "kubectl-exitcode" } else { "exitcode-exporter" };
    let arguments = arguments.split_whitespace().skip(usize::from(program == "kubectl-exitcode"));
    let options = Options::read(std::iter::once(program).chain(arguments).map(OsString::from)).unwrap();
    let Some(Command::Report(report)) = &options.command else { panic!("no report: {options:?}") };
    report::run(server.client(), &options, report, screen, NOW).await
}

/// What is printed where it is no terminal.
async fn output(server: &ApiServer, arguments: &str) -> String {
    let printed = ask(server, arguments, Screen::default()).await.unwrap();
    assert_eq!(printed.notes, Vec::<String>::new());
    printed.text
}

fn put(server: &ApiServer, pod: PodBuilder) {
    server.store().put(Resource::Pods, pod.json());
}

fn tell(server: &ApiServer, name: &str, event: EventBuilder) {
    let event = event.with("/metadata/name", json!(name)).with("/metadata/namespace", json!("shop"));
    server.store().put(Resource::Events, event.json());
}

fn of_deployment(name: &str, pod: PodBuilder) -> PodBuilder {
    pod.label("pod-template-hash", "5d9c").owned_by("ReplicaSet", &format!("{name}-5d9c"))
}

/// Seconds after START: two hours less what the name says.
const HOUR_AGO: i64 = 3600;
const MINUTE_AGO: i64 = 7140;

/// A cluster in which some things have ended.
fn cluster() -> ApiServer {
    let server = ApiServer::default();
    // Two pods of one deployment, killed for their liveness probe; the first shows both of its last two ends.
    let cart = |name: &str| of_deployment("cart", pod(name)).container("app").probe("livenessProbe", 0, 5);
    put(
        &server,
        cart("cart-5d9c-a")
            .last("a1", 137, "Error", HOUR_AGO, HOUR_AGO + 60)
            .ended("a2", 137, "Error", MINUTE_AGO - 60, MINUTE_AGO)
            .restarted(7),
    );
    put(&server, cart("cart-5d9c-b").crashed("b1", 137, "Error", 100, 200).restarted(3));
    tell(&server, "k1", liveness_kill("cart-5d9c-a", "app", HOUR_AGO + 30));
    tell(&server, "k2", liveness_kill("cart-5d9c-a", "app", MINUTE_AGO - 30));
    // Its memory, and what it said last.
    put(
        &server,
        pod("index-0")
            .owned_by("StatefulSet", "index")
            .container("검색")
            .memory_limit()
            .crashed("i1", 137, "OOMKilled", MINUTE_AGO - 600, MINUTE_AGO - 300)
            .restarted(12)
            .with("/metadata/namespace", json!("search"))
            .with(
                "/status/containerStatuses/0/lastState/terminated/message",
                json!("메모리가 부족합니다 🦀\n\u{1b}[31m<b>&\u{202e}"),
            ),
    );
    // A Job of a CronJob, done.
    put(
        &server,
        pod("nightly-29000000-x")
            .owned_by_uid("Job", "nightly-29000000", "uid-of-job")
            .with("/metadata/ownerReferences/0/apiVersion", json!("batch/v1"))
            .with("/metadata/namespace", json!("batch"))
            .restart_policy("Never")
            .phase("Succeeded")
            .container("app")
            .ended("n1", 0, "Completed", HOUR_AGO, HOUR_AGO + 120),
    );
    server.store().put(
        Resource::Jobs,
        json!({"metadata": {"name": "nightly-29000000", "namespace": "batch", "uid": "uid-of-job",
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly",
                                 "uid": "uid-of-cronjob", "controller": true}]}}),
    );
    server.store().put(
        Resource::CronJobs,
        json!({"metadata": {"name": "nightly", "namespace": "batch", "uid": "uid-of-cronjob"}}),
    );
    // Gone from the runtime: nobody knows when.
    put(&server, pod("lonely").container("app").used_to_run().running("l2", MINUTE_AGO).restarted(1));
    // Nothing of these has ended.
    put(&server, of_deployment("web", pod("web-5d9c-a")).container("app").running("w1", 10));
    put(&server, pod("never").container("app").waiting("ImagePullBackOff"));
    server
}

/// A whole output, kept in a file.
fn expected(name: &str) -> String {
    let path = format!("{}/tests/report/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[tokio::test(start_paused = true)]
async fn each_form_of_a_report_is_what_was_agreed() {
    let server = cluster();
    for (name, arguments, screen) in [
        ("table.txt", "report", Screen::default()),
        ("table.txt", "report --by workload --output table", screen(120)),
        ("table.txt", "kubectl -A -n shop", Screen::default()),
        ("table-80.txt", "report", screen(80)),
        ("table-50.txt", "report", screen(50)),
        ("table-colours.txt", "report", Screen { width: Some(120), colours: true }),
        ("by-pod.txt", "report --by pod", Screen::default()),
        ("by-pod-80.txt", "report --by=pod", screen(80)),
        ("wide.txt", "report -o wide", Screen::default()),
        ("wide-120.txt", "report -o wide", screen(120)),
        ("shop.txt", "kubectl -n shop", Screen::default()),
        ("report.json", "report -o json", Screen::default()),
        ("report.json", "report -o json", screen(10)),
        ("report.csv", "report -o csv", Screen::default()),
        (
            "links.json",
            "report -o json --runbook-url https://books.example/ --exit-code 0",
            Screen::default(),
        ),
    ] {
        let printed = ask(&server, arguments, screen).await.unwrap();
        assert_eq!(printed.notes, Vec::<String>::new(), "{arguments}");
        assert_eq!(printed.text, expected(name), "{name}: {arguments}");
    }
}

/// Workload (or pod), code and cause of each row, in order.
async fn rows(server: &ApiServer, arguments: &str) -> Vec<String> {
    let found: Value = serde_json::from_str(&output(server, &format!("{arguments} -o json")).await).unwrap();
    let text = |row: &Value, field: &str| match &row[field] {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let row =
        |row: &Value| format!("{} {} {}", text(row, "workload"), text(row, "exit_code"), text(row, "cause"));
    found.as_array().unwrap().iter().map(row).collect()
}

#[tokio::test(start_paused = true)]
async fn filters_leave_out_rows_and_change_none() {
    let server = cluster();
    let (cart, index) = ("cart 137 liveness_probe", "index 137 oom_limit");
    let (lonely, nightly) = ("lonely 137 lost", "nightly 0 completed");
    for (arguments, expected) in [
        ("report", vec![cart, index, lonely, nightly]),
        ("report --exit-code 137", vec![cart, index, lonely]),
        ("report --exit-code 0,-1 --exit-code 1", vec![nightly]),
        ("report --cause lost,completed", vec![lonely, nightly]),
        ("report --cause oom_limit --cause lost --exit-code 0", vec![]),
        // Nobody knows when the lost one ended.
        ("report --since 59m", vec![cart, index, lonely, nightly]),
        ("report --since 5m", vec![cart, lonely]),
        ("report --since 1s", vec![lonely]),
        ("report --namespaces batch,search", vec![index, nightly]),
        ("report -n batch --namespaces=search", vec![index, nightly]),
        ("report -n batch -n search -A", vec![cart, index, lonely, nightly]),
        ("report --exclude-namespaces shop,batch", vec![index]),
        ("kubectl", vec![]),
        ("kubectl --namespace batch", vec![nightly]),
        ("kubectl --all-namespaces --exit-code=0", vec![nightly]),
    ] {
        let empty = expected.is_empty();
        let found = if empty { Vec::new() } else { rows(&server, arguments).await };
        assert_eq!(found, expected, "{arguments}");
        let printed = ask(&server, arguments, Screen::default()).await.unwrap();
        assert_eq!(printed.text.is_empty(), empty, "{arguments}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_found_is_said_apart_from_the_rows() {
    let server = cluster();
    for (arguments, text, note) in [
        ("report --exit-code 99", "", "No container of 7 pods shows an end that matches."),
        ("report --exit-code 99 -o json", "[]\n", "No container of 7 pods shows an end that matches."),
        ("kubectl -o wide", "", "No container of 0 pods shows an end."),
    ] {
        let printed = ask(&server, arguments, Screen::default()).await.unwrap();
        assert_eq!(printed, Printed { text: text.to_owned(), notes: vec![note.to_owned()] }, "{arguments}");
    }
    let csv = ask(&server, "kubectl -o csv", Screen::default()).await.unwrap().text;
    assert_eq!(csv.lines().count(), 1);
    assert_eq!(Some(csv.as_str().trim_end()), expected("report.csv").lines().next());
}

#[tokio::test(start_paused = true)]
async fn without_events_and_owners_the_report_says_what_is_missing() {
    let server = cluster();
    let forbidden = || Fault::Refuse(ApiError::new(403, "forbidden"));
    server.faults().always(Matcher::any().of(Resource::Events), forbidden());
    server.faults().always(Matcher::any().of(Resource::Jobs), forbidden());
    let printed = ask(&server, "report", Screen::default()).await.unwrap();
    assert!(printed.text.contains("killed"), "{}", printed.text);
    assert!(printed.text.contains("job/nightly-29000000"), "{}", printed.text);
    assert_eq!(
        printed.notes,
        [
            "No events: causes that only an event can tell fall back to status and history: cannot list events at \
             cluster scope: grant verb list on resource events (the API server answered 403 Forbidden: forbidden)",
            "Not all owners could be looked up (1 forbidden): their pods stand under the last owner that is known",
        ]
    );
    let quiet = ask(&server, "report --events false --exit-code 137", Screen::default()).await.unwrap();
    assert!(quiet.text.contains("killed"), "{}", quiet.text);
    assert_eq!(quiet.notes.len(), 1, "events were not wanted: {:?}", quiet.notes);
}

#[tokio::test(start_paused = true)]
async fn pods_that_cannot_be_listed_are_one_line_and_no_report() {
    let server = cluster();
    let refuse = |code, message: &str| Fault::Refuse(ApiError::new(code, message));
    for (fault, expected) in [
        (
            refuse(403, "no"),
            "cannot list pods at cluster scope: grant verb list on resource pods (the API server answered \
             403 Forbidden: no)",
        ),
        (refuse(401, "who are you"), "the API server answered 401 Unauthorized: who are you"),
        (Fault::NeverAnswer, "the API server did not answer within 30 s"),
        (Fault::Empty, "the list can't be read: JSON that ends too soon at line 1 column 0"),
        (Fault::RefuseRaw(502, "<html>".into()), "the API server answered 502 Bad Gateway"),
    ] {
        server.faults().clear();
        server.faults().always(Matcher::any().of(Resource::Pods), fault);
        let error = ask(&server, "report", Screen::default()).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(std::error::Error::source(&error).is_none(), "told twice");
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_asked_again_and_a_cut_list_begins_again_without_counting_twice() {
    let server = ApiServer::default();
    for number in 0..1200 {
        let crashed = of_deployment("web", pod(&format!("web-{number}"))).container("app");
        put(&server, crashed.crashed(&format!("id-{number}"), 1, "Error", 1, 2).restarted(1));
    }
    let (pods, more) = (Matcher::any().of(Resource::Pods), Matcher::any().of(Resource::Pods).continued(true));
    server.faults().next(2, pods, Fault::Refuse(ApiError::new(429, "slow down")));
    server.faults().next(1, more, Fault::ExpireContinue);
    let text = output(&server, "report").await;
    assert_eq!(
        text.lines().nth(1).unwrap(),
        "shop       deployment/web  app        1     Error   application  1200  1200      119m"
    );
    let lists = |resource| {
        let calls = server.faults().requests().into_iter().filter_map(|logged| logged.call);
        calls.filter(|call| call.resource == resource && call.verb == Verb::List).count()
    };
    assert_eq!((lists(Resource::Pods), lists(Resource::Events)), (2 + 1 + 1 + 3, 1));
}

#[tokio::test(start_paused = true)]
async fn hostile_and_huge_content_stays_in_its_cell() {
    let server = ApiServer::default();
    let message = |text: &str| {
        json!({"exitCode": 1, "containerID": "x", "message": text, "finishedAt": null,
                                      "startedAt": "1970-01-01T00:00:00Z", "reason": null})
    };
    let huge = "가".repeat(1 << 20);
    for (name, text) in
        [("a", huge.as_str()), ("b", "=cmd|'/c calc'!A1,\"x\""), ("c", "a\tb\r\nc\u{9b}2J"), ("d", "")]
    {
        let status = json!([{"name": "app", "restartCount": null, "image": null, "state": {"terminated": message(text)},
                             "lastState": null}, null]);
        put(&server, pod(name).container("app").with("/status/containerStatuses", status));
    }
    put(&server, pod("null").with("/status", Value::Null).with("/spec", Value::Null));
    let wide = output(&server, "report -o wide").await;
    let messages: Vec<&str> =
        wide.lines().skip(1).take(4).map(|line| line.rsplit("  ").next().unwrap()).collect();
    let cut = "가".repeat(341);
    assert_eq!(messages, [cut.as_str(), r#"=cmd|'/c calc'!A1,"x""#, r"a\tb\r\nc\u{9b}2J", "-"]);
    let csv = output(&server, "report -o csv").await;
    assert!(csv.contains(r#","'=cmd|'/c calc'!A1,""x""","#), "{csv}");
    assert!(csv.lines().count() == 5 && !csv.contains('\t'), "{csv}");
    for width in (0..200).step_by(7) {
        let printed = ask(&server, "report -o wide --cause application", screen(width)).await.unwrap().text;
        let table = printed.split("\n\n").next().unwrap();
        assert!(
            table.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= width),
            "{width}:\n{table}"
        );
    }
}

/// The kubelet sends no event for the later kills of a crash loop; an earlier one, and what this end left, tell.
#[tokio::test(start_paused = true)]
async fn an_end_is_explained_by_an_event_about_an_earlier_one_of_its_workload() {
    let server = ApiServer::default();
    let web = |name: &str| of_deployment("web", pod(name)).container("app").probe("livenessProbe", 0, 5);
    put(&server, web("a").crashed("a9", 137, "Error", 1000, 1060).restarted(9));
    put(&server, web("b").crashed("b9", 137, "Error", 1000, 1060).restarted(9));
    put(&server, web("c").crashed("c9", 137, "Error", 1000, 1003).restarted(9));
    tell(&server, "kill", liveness_kill("a", "app", 500));
    let rows = rows(&server, "report --by pod").await;
    assert_eq!(
        rows,
        ["web 137 liveness_probe", "web 137 liveness_probe", "web 137 killed"],
        "c died too soon"
    );
}

/// The kubelet is killing the next attempt: the event object says when, and that the visible end was killed the first time.
#[tokio::test(start_paused = true)]
async fn an_event_that_happened_again_still_explains_the_end_of_its_first_time() {
    let server = ApiServer::default();
    let web = pod("web").container("app").probe("livenessProbe", 0, 5);
    put(&server, web.last("w0", 143, "Error", 1000, 1060).running("w1", 1061).restarted(1));
    tell(&server, "kill", liveness_kill("web", "app", 1059).again(2, 1120));
    let found = output(&server, "report -o json").await;
    assert!(found.contains(r#""cause":"liveness_probe","evidence":"event""#), "{found}");
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_container_and_both_records_are_shown() {
    let server = ApiServer::default();
    put(
        &server,
        pod("all")
            .init_container("setup")
            .ended("s", 0, "Completed", 1, 2)
            .sidecar("proxy")
            .crashed("p", 139, "Error", 3, 4)
            .restarted(1)
            .container("app")
            .last("a1", 2, "Error", 5, 6)
            .ended("a2", 1, "Error", 7, 8)
            .restarted(40)
            .ephemeral("debug")
            .ended("d", 130, "Error", 9, 10),
    );
    put(&server, pod("etcd").mirror_of("hash").container("etcd").crashed("e", 1, "Error", 1, 5).restarted(4));
    put(&server, pod("leaving").container("app").ended("l", 143, "Error", 1, 50).deleted(45, 30));
    tell(&server, "stop", stopping("leaving", "app", 45));
    tell(&server, "start", killing("all", "debug", "definition changed, will be restarted", 9));
    let found = output(&server, "report -o csv").await;
    let cells = |line: &str| line.split(',').skip(1).take(10).collect::<Vec<_>>().join(" ");
    assert_eq!(
        found.lines().skip(1).map(cells).collect::<Vec<_>>(),
        [
            "barepod all all debug ephemeral_container 130 Error definition_changed 1 1",
            "barepod all all app container 1 Error application 1 1",
            "barepod all all app container 2 Error application 1 1",
            "staticpod etcd etcd-node-1 etcd container 1 Error application 1 1",
            "barepod all all proxy sidecar_container 139 Error fatal_signal 1 1",
            "barepod leaving leaving app container 143 Error pod_deleted 1 1",
            "barepod all all setup init_container 0 Completed completed 1 1",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn on_a_cluster_where_everything_happens_it_says_what_the_truth_says() {
    let mut cluster = Cluster::new(ClusterSettings::default());
    cluster.begin();
    tokio::time::sleep(Duration::from_secs(90)).await;
    cluster.stop().await;
    let truth: BTreeSet<String> = cluster
        .truth()
        .lines()
        .iter()
        .filter_map(|line| line.strip_prefix("termination ")?.rsplit_once(' '))
        .map(|(ended, _)| ended.to_owned())
        .collect();
    let server = cluster.server();
    let found = output(server, "report -o json").await;
    let found: Vec<Value> = serde_json::from_str(&found).unwrap();
    let text = |row: &Value, field: &str| row[field].to_string().trim_matches('"').to_owned();
    let ended = |row: &Value| {
        let fields =
            ["container_type", "container", "exit_code", "reason", "cause"].map(|field| text(row, field));
        let workload =
            format!("{} {}/{}", text(row, "namespace"), text(row, "workload_type"), text(row, "workload"));
        format!("{workload} {}", fields.join(" "))
    };
    let found: BTreeSet<String> = found.iter().map(ended).collect();
    assert!(found.len() > 25, "{found:?}");
    // What only a watch would have seen, or an event that the kubelet dropped told, reads killed: never anything wrong.
    let unlike: Vec<_> =
        found.difference(&truth).filter(|ended| !ended.ends_with(" 137 Error killed")).collect();
    assert_eq!(unlike, Vec::<&String>::new());
    assert!(found.difference(&truth).count() < 3, "{found:?}");
}

/// The program itself, by this name, with nothing in the environment.
fn program(name: &str, arguments: &[&str]) -> assert_cmd::Command {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_exitcode-exporter"));
    command.arg0(name).args(arguments).env_clear().env("HOME", "/nonexistent");
    assert_cmd::Command::from_std(command)
}

#[test]
fn a_wrong_value_is_one_line_and_exit_status_2() {
    for (arguments, line) in [
        (
            &["report", "--since", "yesterday"][..],
            "invalid value 'yesterday' for '--since <DURATION>': not a duration like 65s, 2m or 1h30m",
        ),
        (
            &["report", "--exit-code", "137,x"],
            "invalid value 'x' for '--exit-code <CODES>': not an exit code: a whole number like 137",
        ),
        (
            &["report", "--by", "hour"],
            "invalid value 'hour' for '--by <WHAT>' [possible values: workload, pod]",
        ),
        (
            &["report", "-o", "yaml"],
            "invalid value 'yaml' for '--output <FORM>' [possible values: table, wide, json, csv]",
        ),
        (
            &["report", "-n", "Shop"],
            "invalid value 'Shop' for '--namespace <NAMES>': 'Shop' is not a namespace: lower-case letters, digits and '-', at most 63",
        ),
        (&["report", "shop"], "unexpected argument 'shop' found"),
    ] {
        program("exitcode-exporter", arguments).assert().code(2).stdout("").stderr(format!("{line}\n"));
        program("/usr/bin/kubectl-exitcode", &arguments[1..])
            .assert()
            .code(2)
            .stdout("")
            .stderr(format!("{line}\n"));
    }
    let output = program("exitcode-exporter", &["report", "--cause", "oom"])
        .assert()
        .code(2)
        .stdout("")
        .get_output()
        .clone();
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(
        line.starts_with(
            "invalid value 'oom' for '--cause <CAUSES>' [possible values: start_failed, oom_limit, "
        ),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1);
}

/// What the README says of the options is what `--help` says, both ways.
#[test]
fn every_option_of_the_report_is_in_the_readme_and_none_else() {
    let options = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '-'));
        words.filter(|word| word.starts_with("--") && !word.starts_with("---")).map(str::to_owned).collect()
    };
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, section) = readme.split_once("| option of `report` |").unwrap();
    let (table, _) = section.split_once("\n\n").unwrap();
    let output = program("exitcode-exporter", &["report", "-h"]).assert().success().get_output().clone();
    let mut help = options(&String::from_utf8(output.stdout).unwrap());
    for told_elsewhere in ["--help", "--namespace", "--log-format", "--log-level"] {
        assert!(help.remove(told_elsewhere), "{told_elsewhere}");
    }
    assert_eq!(options(table), help);
}

#[test]
fn no_cluster_is_one_line_and_exit_status_1() {
    let line = "exitcode-exporter: no cluster to connect to: not in a pod with a service account, and ";
    let output = program("exitcode-exporter", &["report"]).assert().code(1).stdout("").get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with(line) && said.lines().count() == 1, "{said}");
}

/// Times are of today here, so ages are not compared.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_prints_the_report_by_both_of_its_names() {
    let server = cluster();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let served = server.serve(listener).unwrap();
    let kubeconfig = json!({
        "current-context": "test", "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u", "namespace": "search"}}],
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", served.address())}}], "users": [{"name": "u", "user": {}}],
    });
    let path = std::env::temp_dir().join(format!("exitcode-report-{}", std::process::id()));
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    let file = path.display().to_string();
    tokio::task::spawn_blocking(move || {
        let all = expected("report.csv");
        let search: String = all
            .split_inclusive('\n')
            .filter(|line| line.starts_with("namespace") || line.starts_with("search"))
            .collect();
        let ask = |name: &str, arguments: &[&str]| {
            program(name, arguments).assert().success().stderr("").get_output().clone()
        };
        let text = |output: std::process::Output| String::from_utf8(output.stdout).unwrap();
        assert_eq!(text(ask("exitcode-exporter", &["report", "-o", "csv", "--kubeconfig", &file])), all);
        assert_eq!(text(ask("kubectl-exitcode", &["-o", "csv", "--kubeconfig", &file])), search);
        assert_eq!(
            text(ask(
                "/opt/kubectl-exitcode",
                &["-A", "-o", "csv", "--kubeconfig", &file, "--context", "test"]
            )),
            all
        );
        let table = text(ask("exitcode-exporter", &["report", "--kubeconfig", &file]));
        assert!(
            !table.contains('\u{1b}') && table.contains("deployment/cart    app        137   Error  "),
            "{table}"
        );
        std::fs::remove_file(&file).unwrap();
    })
    .await
    .unwrap();
}
