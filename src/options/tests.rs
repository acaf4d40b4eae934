//! The command line: what is read, and the one line for what is wrong.

use std::ffi::OsString;
use std::io::Write;

use super::*;

fn read(arguments: &[&str]) -> Result<Options, NoOptions> {
    let program = std::iter::once("exitcode-exporter");
    Options::read(program.chain(arguments.iter().copied()).map(OsString::from))
}

fn wrong(arguments: &[&str]) -> String {
    match read(arguments) {
        Err(NoOptions::Wrong(line)) => line,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

#[test]
fn defaults() {
    let options = read(&[]).unwrap();
    assert_eq!(options.command, None);
    assert_eq!(options.publish(false), PublishOptions::default());
    assert_eq!(
        (options.events, options.log_format, options.log_level),
        (true, LogFormat::Text, LogLevel::Info)
    );
    assert_eq!(options.watched_namespaces(), Vec::<String>::new());
    let addresses: Vec<_> = options.listen_addresses().iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["[::]:10137"]);
}

#[test]
fn every_option_is_read() {
    assert_eq!(read(&["--auth=kubernetes"]).unwrap().auth, Some(Auth::Kubernetes));
    let options = read(&[
        "demo",
        "--kubeconfig=/tmp/config",
        "--context=prod",
        "--namespaces=b,a",
        "--namespaces=c,a",
        "--exclude-namespaces=kube-system",
        "--events=false",
        "--listen-address=127.0.0.1:1",
        "--listen-address=[::1]:2",
        "--log-format=json",
        "--log-level=debug",
        "--copy-label=team",
        "--copy-label=app.kubernetes.io/name=application",
        "--pod-label",
        "--series-ttl=1h30m",
        "--new-series-zero-for=2m",
        "--openmetrics-created",
        "--max-series=5",
        "--show-messages",
        "--runbook-url=https://example.org/books",
        "--web.config.file=/tmp/web.yml",
        "--state-dir=/var/lib/exitcode-exporter",
    ])
    .unwrap();
    assert_eq!(options.command, Some(Command::Demo));
    assert_eq!((options.web_config_file.clone(), options.auth), (Some("/tmp/web.yml".into()), None));
    assert_eq!(options.kubeconfig, Some("/tmp/config".into()));
    assert_eq!(options.context.as_deref(), Some("prod"));
    assert_eq!(options.watched_namespaces(), ["a", "b", "c"]);
    assert_eq!(options.excluded_namespaces(), ["kube-system"]);
    assert!(!options.events);
    let addresses: Vec<_> = options.listen_addresses().iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["127.0.0.1:1", "[::1]:2"]);
    assert_eq!((options.log_format, options.log_level), (LogFormat::Json, LogLevel::Debug));
    assert_eq!(options.state_dir, Some("/var/lib/exitcode-exporter".into()));
    assert_eq!(options.copied_keys(), ["team", "app.kubernetes.io/name"]);
    assert_eq!(
        options.publish(false),
        PublishOptions {
            series: SeriesOptions {
                copy_labels: vec!["team".into(), "application".into()],
                pod_label: true,
                max_series: 5,
                series_ttl: Duration::from_secs(5400),
            },
            zero_for: Duration::from_secs(120),
            openmetrics_created: true,
            show_messages: true,
            runbooks: Runbooks::new("https://example.org/books/"),
        }
    );
}

#[test]
fn a_wrong_value_is_one_line_that_names_option_and_value_and_what_is_allowed() {
    let namespace = "is not a namespace: lower-case letters, digits and '-', at most 63";
    let key = "is not the key of a pod label, like app or example.org/team";
    let address = "not an address like :10137, 127.0.0.1:10137, [::]:10137 or localhost:10137";
    let url = "not a base of links: an http or https URL, or a path that begins with /";
    for (arguments, expected) in [
        (vec!["--namespaces=A"], format!("invalid value 'A' for '--namespaces <NAMES>': 'A' {namespace}")),
        (vec!["--namespaces=a,b_c"], format!("invalid value 'a,b_c' for '--namespaces <NAMES>': 'b_c' {namespace}")),
        (
            vec!["--exclude-namespaces=-"],
            format!("invalid value '-' for '--exclude-namespaces <NAMES>': '-' {namespace}"),
        ),
        (vec!["--events=maybe"], "invalid value 'maybe' for '--events <true|false>' [possible values: true, false]".into()),
        (vec!["--listen-address=10137"], format!("invalid value '10137' for '--listen-address <ADDRESS>': {address}")),
        (vec!["--listen-address=::1:80"], format!("invalid value '::1:80' for '--listen-address <ADDRESS>': {address}")),
        (vec!["--listen-address=:70000"], format!("invalid value ':70000' for '--listen-address <ADDRESS>': {address}")),
        (vec!["--listen-address=1.2.3.4.5:1"], format!("invalid value '1.2.3.4.5:1' for '--listen-address <ADDRESS>': {address}")),
        (vec!["--listen-address=a b:1"], format!("invalid value 'a b:1' for '--listen-address <ADDRESS>': {address}")),
        (vec!["--log-format=xml"], "invalid value 'xml' for '--log-format <FORMAT>' [possible values: text, json]".into()),
        (
            vec!["--auth=basic"],
            "invalid value 'basic' for '--auth <kubernetes>' [possible values: kubernetes]".into(),
        ),
        (
            vec!["demo", "--auth=kubernetes"],
            "--auth kubernetes needs a cluster: the demo's knows no tokens".into(),
        ),
        (
            vec!["--log-level=loud"],
            "invalid value 'loud' for '--log-level <LEVEL>' [possible values: error, warn, info, debug, trace]".into(),
        ),
        (vec!["--copy-label=-a"], format!("invalid value '-a' for '--copy-label <KEY[=NAME]>': '-a' {key}")),
        (vec!["--copy-label=a/b/c"], format!("invalid value 'a/b/c' for '--copy-label <KEY[=NAME]>': 'a/b/c' {key}")),
        (
            vec!["--copy-label=a=9"],
            "invalid value 'a=9' for '--copy-label <KEY[=NAME]>': '9' is not a label name: letters, digits and '_', \
             no digit first, no '__' first"
                .into(),
        ),
        (
            vec!["--copy-label=job"],
            "invalid value 'job' for '--copy-label <KEY[=NAME]>': the label name 'job' is taken; \
             choose another with KEY=NAME"
                .into(),
        ),
        (
            vec!["--copy-label=app", "--copy-label=example.org/app=app"],
            "invalid value 'example.org/app' for '--copy-label <KEY[=NAME]>': the label name 'app' is given twice".into(),
        ),
        (
            vec!["--series-ttl=2"],
            "invalid value '2' for '--series-ttl <DURATION>': not a duration like 65s, 2m or 1h30m".into(),
        ),
        (vec!["--series-ttl=0s"], "invalid value '0s' for '--series-ttl <DURATION>': allowed is from 1s to 1y".into()),
        (
            vec!["--new-series-zero-for=61m"],
            "invalid value '61m' for '--new-series-zero-for <DURATION>': allowed is from 0s to 1h".into(),
        ),
        (vec!["--max-series=0"], "invalid value '0' for '--max-series <N>': not a whole number from 1 to 10000000".into()),
        (vec!["--max-series=lots"], "invalid value 'lots' for '--max-series <N>': not a whole number from 1 to 10000000".into()),
        (vec!["--runbook-url=ftp://x"], format!("invalid value 'ftp://x' for '--runbook-url <URL>': {url}")),
        (vec!["--runbook-url=//x"], format!("invalid value '//x' for '--runbook-url <URL>': {url}")),
        (vec!["--pod-label=yes"], "unexpected value 'yes' for '--pod-label' found; no more were expected".into()),
        (vec!["--max-serie=1"], "unexpected argument '--max-serie' found; a similar argument exists: '--max-series'".into()),
        (vec!["--state-dir=/dev/null"], "invalid value '/dev/null' for '--state-dir <DIR>': not a directory".into()),
        (vec!["rapport"], "unrecognized subcommand 'rapport'; a similar subcommand exists: 'report'".into()),
        (vec!["--max-series"], "a value is required for '--max-series <N>' but none was supplied".into()),
        (
            vec!["--max-series=1", "--max-series=2"],
            "the argument '--max-series <N>' cannot be used multiple times".into(),
        ),
    ] {
        assert_eq!(wrong(&arguments), expected, "{arguments:?}");
    }
}

#[test]
fn hostile_values_stay_on_one_short_line() {
    for value in ["a\nb\u{1b}[31m", &"x".repeat(1 << 20)] {
        let line = wrong(&[&format!("--namespaces={value}")]);
        assert!(!line.contains(['\n', '\u{1b}']) && line.chars().count() <= 501, "{line}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for (argument, expected) in [
        ("--version", concat!("exitcode-exporter ", env!("CARGO_PKG_VERSION"), "\n")),
        ("--help", "EXITCODE_MAX_SERIES"),
        ("help", "EXITCODE_MAX_SERIES"),
    ] {
        match read(&[argument]) {
            Err(NoOptions::Asked(text)) => assert!(text.contains(expected), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn messages_are_shown_where_readers_are_authenticated() {
    for (arguments, shown) in [(&["--auth=kubernetes"][..], true), (&[], false), (&["--show-messages"], true)]
    {
        let options = read(arguments).unwrap();
        let authenticates = options.access().unwrap().authenticates();
        assert_eq!(options.publish(authenticates).show_messages, shown, "{arguments:?}");
    }
}

#[test]
fn every_option_has_its_variable() {
    for option in Options::command().get_arguments() {
        let Some(long) = option.get_long() else { continue };
        if matches!(long, "help" | "version") {
            continue;
        }
        let expected = format!("EXITCODE_{}", long.to_uppercase().replace(['-', '.'], "_"));
        assert_eq!(option.get_env().and_then(|env| env.to_str()), Some(expected.as_str()));
        assert!(option.is_global_set(), "{long} may stand after the subcommand too");
    }
}

#[test]
fn every_option_of_the_report_has_its_variable_but_for_kubectl_s_own() {
    let command = Options::command();
    let report = command.get_subcommands().find(|command| command.get_name() == "report").unwrap();
    for option in report.get_arguments() {
        let Some(long) = option.get_long() else { continue };
        let expected = match long {
            "help" | "namespace" | "all-namespaces" => None,
            long => Some(format!("EXITCODE_REPORT_{}", long.to_uppercase().replace('-', "_"))),
        };
        assert_eq!(option.get_env().and_then(|env| env.to_str()), expected.as_deref());
    }
}

#[test]
fn by_the_name_of_a_plugin_it_is_the_report() {
    for (name, plugin) in [
        ("kubectl-exitcode", true),
        ("/usr/local/bin/kubectl-exitcode", true),
        ("kubectl-exitcode.exe", true),
        ("exitcode-exporter", false),
        ("kubectl-exitcodes", false),
        ("", false),
    ] {
        let read = Options::read([OsString::from(name)]).unwrap();
        let expected = Report { plugin, ..Report::default() };
        assert_eq!(read.command, plugin.then_some(Command::Report(expected)), "{name:?}");
    }
}

#[test]
fn the_report_s_help_shows_its_own_options_and_what_concerns_it() {
    for (program, arguments, usage) in [
        ("exitcode-exporter", vec!["report", "--help"], "exitcode-exporter report [OPTIONS]"),
        ("kubectl-exitcode", vec!["--help"], "kubectl exitcode [OPTIONS]"),
    ] {
        let arguments = std::iter::once(program).chain(arguments).map(OsString::from);
        let Err(NoOptions::Asked(text)) = Options::read(arguments) else { panic!("no help") };
        assert!(text.contains(usage), "{text}");
        let place = |option: &str| text.find(option);
        assert!(place("--by").is_some() && place("--by") < place("--kubeconfig"), "{text}");
        assert_eq!((place("--max-series"), place("--listen-address")), (None, None), "{text}");
    }
}

#[test]
fn names_of_copied_labels() {
    for (text, name) in [
        ("app", "app"),
        ("app.kubernetes.io/name", "app_kubernetes_io_name"),
        ("a-b.c_D", "a_b_c_D"),
        ("9x", "_9x"),
        ("job=batch", "batch"),
        ("pod-template-hash", "pod_template_hash"),
    ] {
        assert_eq!(text.parse::<CopyLabel>().map(|label| label.name), Ok(name.to_owned()));
    }
    for taken in values::TAKEN {
        assert_eq!(taken.parse::<CopyLabel>(), Err(InvalidValue::Taken(taken.to_owned())));
        assert_eq!(format!("x={taken}").parse::<CopyLabel>(), Err(InvalidValue::Taken(taken.to_owned())));
    }
}

/// Reads the options from the environment of this process, for the test below.
#[test]
#[ignore = "run by the test of the environment in a process of its own"]
fn child() {
    let options = match read(&[]) {
        Ok(options) => format!("{:?} {:?}", options.publish(false), options.watched_namespaces()),
        Err(error) => error.to_string(),
    };
    writeln!(std::io::stdout(), "OPTIONS {options}").unwrap();
}

#[test]
fn variables_are_read_empty_ones_are_none_and_wrong_ones_are_named() {
    let with = |variables: &[(&str, &str)]| {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "--ignored", "--nocapture", "options::tests::child"]);
        let output = child.envs(variables.iter().copied()).output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        output.lines().find_map(|line| Some(line.split_once("OPTIONS ")?.1.to_owned())).expect(&output)
    };
    let publish = |change: fn(&mut PublishOptions)| {
        let mut options = PublishOptions::default();
        change(&mut options);
        options
    };
    assert_eq!(
        with(&[
            ("EXITCODE_MAX_SERIES", "7"),
            ("EXITCODE_NAMESPACES", "b,a"),
            ("EXITCODE_COPY_LABEL", "team,app=application"),
            ("EXITCODE_POD_LABEL", "true"),
            ("EXITCODE_SHOW_MESSAGES", "false"),
        ]),
        format!(
            "{:?} {:?}",
            publish(|options| {
                options.series.max_series = 7;
                options.series.copy_labels = vec!["team".into(), "application".into()];
                options.series.pod_label = true;
            }),
            ["a", "b"]
        )
    );
    let empty =
        ["MAX_SERIES", "NAMESPACES", "COPY_LABEL", "POD_LABEL", "LISTEN_ADDRESS", "EVENTS", "RUNBOOK_URL"];
    let empty: Vec<_> = empty.iter().map(|name| format!("EXITCODE_{name}")).collect();
    let empty: Vec<_> = empty.iter().map(|name| (name.as_str(), "")).collect();
    assert_eq!(with(&empty), format!("{:?} []", PublishOptions::default()));
    for (name, value, expected) in [
        (
            "MAX_SERIES",
            "x",
            "invalid value 'x' for EXITCODE_MAX_SERIES (--max-series): not a whole number from 1 to 10000000",
        ),
        (
            "SERIES_TTL",
            "x",
            "invalid value 'x' for EXITCODE_SERIES_TTL (--series-ttl): not a duration like 65s, 2m or 1h30m",
        ),
        ("POD_LABEL", "x", "invalid value 'x' for EXITCODE_POD_LABEL (--pod-label): neither true nor false"),
        (
            "LOG_FORMAT",
            "x",
            "invalid value 'x' for EXITCODE_LOG_FORMAT (--log-format) [possible values: text, json]",
        ),
        (
            "COPY_LABEL",
            "a,job",
            "invalid value 'job' for EXITCODE_COPY_LABEL (--copy-label): the label name 'job' is taken; \
             choose another with KEY=NAME",
        ),
    ] {
        assert_eq!(with(&[(&format!("EXITCODE_{name}"), value)]), expected);
    }
}
