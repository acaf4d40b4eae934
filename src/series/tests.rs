//! Bounds in number and in age.

use proptest::prelude::ProptestConfig;

use super::*;
use crate::publish::tests::termination;
use crate::termination::{Cause, ExitCode};

const START: Timestamp = Timestamp(1_000_000);

fn at(seconds: i64) -> Timestamp {
    START.plus_ms(seconds * 1000)
}

fn limited(max_series: usize) -> Series {
    Series::new(SeriesOptions { max_series, ..SeriesOptions::default() })
}

fn ended(series: &mut Series, workload: &str, now: Timestamp) {
    series.apply(&Effect::Terminated(Box::new(termination(workload))), now);
}

fn restarted(series: &mut Series, workload: &str, now: Timestamp) {
    let termination = termination(workload);
    series.apply(
        &Effect::Restarted { subject: termination.subject, outcome: termination.outcome, count: 1 },
        now,
    );
}

fn failed(series: &mut Series, workload: &str, now: Timestamp) {
    let workload = termination(workload).subject.workload;
    series.apply(&Effect::PodFailed { workload, extra: Arc::new([]), failure: PodFailure::Evicted }, now);
}

fn pods(series: &mut Series, workload: &str, pods: u32, now: Timestamp) {
    let workload = termination(workload).subject.workload;
    series.apply(&Effect::WorkloadPods { workload, pods }, now);
}

/// What is exposed, in short: family letter, workload or node, value.
fn shown(series: &Series) -> String {
    let name = |labels: &str| {
        let value = |label: &str| labels.split(&format!("{label}=\"")).nth(1)?.split('"').next();
        value("workload").or_else(|| value("node")).unwrap_or_default().to_owned()
    };
    let counter =
        |letter: &str, labels: &str, sample: Sample| format!("{letter}:{}={}", name(labels), sample.value);
    let mut all: Vec<String> = Vec::new();
    all.extend(series.terminations().map(|(labels, sample)| counter("T", labels, sample)));
    all.extend(series.restarts().map(|(labels, sample)| counter("R", labels, sample)));
    all.extend(series.pod_failures().map(|(labels, sample)| counter("F", labels, sample)));
    all.extend(series.node_terminations().map(|(labels, sample)| counter("N", labels, sample)));
    all.extend(series.last_terminations().map(|(labels, _)| format!("L:{}", name(labels))));
    all.extend(series.pods().map(|(labels, pods)| format!("P:{}={pods}", name(labels))));
    assert_eq!(series.len(), all.len(), "the number of series: {all:?}");
    all.join(" ")
}

#[test]
fn each_effect_counts_in_its_families() {
    let mut series = limited(100);
    ended(&mut series, "web", at(0));
    assert_eq!(shown(&series), "T:web=1 N:node-1=1 L:web");
    ended(&mut series, "web", at(1));
    restarted(&mut series, "web", at(1));
    pods(&mut series, "web", 2, at(1));
    failed(&mut series, "web", at(2));
    assert_eq!(shown(&series), "T:web=2 R:web=1 F:web=1 N:node-1=2 L:web P:web=2");
}

#[test]
fn series_are_told_apart_by_every_label() {
    let mut series = limited(100);
    let base = termination("web");
    let mut others = vec![base.clone(); 7];
    others[0].subject.workload.namespace = "other".into();
    others[1].subject.workload.workload_type = "statefulset".into();
    others[2].subject.container = "other".into();
    others[3].outcome.exit_code = ExitCode(Some(1));
    others[4].outcome.exit_code = ExitCode::UNKNOWN;
    others[5].outcome.cause = Cause::OomNode;
    others[6].subject.container_type = crate::termination::ContainerType::Sidecar;
    for termination in others.into_iter().chain([base]) {
        series.apply(&Effect::Terminated(Box::new(termination)), at(0));
    }
    assert_eq!(series.terminations().count(), 8);
    assert!(series.terminations().all(|(_, sample)| sample.value == 1));
    let keys: Vec<_> = series.terminations().map(|(labels, _)| labels.to_owned()).collect();
    assert!(keys.is_sorted(), "{keys:?}");
}

#[test]
fn the_last_termination_is_the_latest_end_and_without_a_record_the_time_of_the_count() {
    let mut series = limited(100);
    let last = |series: &Series| series.last_terminations().map(|(_, at)| at).collect::<Vec<_>>();
    let mut termination = termination("web");
    for (finished, counted, expected) in [
        (Some(at(10)), at(12), at(10)),
        (Some(at(5)), at(13), at(10)),
        (Some(at(20)), at(21), at(20)),
        (None, at(30), at(30)),
    ] {
        (termination.finished_at, termination.counted_at) = (finished, counted);
        series.apply(&Effect::Terminated(Box::new(termination.clone())), counted);
        assert_eq!(last(&series), [expected]);
    }
}

#[test]
fn pods_show_only_for_workloads_that_count_and_are_remembered_until_they_do() {
    let mut series = limited(100);
    pods(&mut series, "web", 3, at(0));
    assert_eq!(shown(&series), "");
    failed(&mut series, "web", at(1));
    assert_eq!(shown(&series), "F:web=1 P:web=3");
    pods(&mut series, "web", 0, at(2));
    assert_eq!(shown(&series), "F:web=1 P:web=0");
    pods(&mut series, "idle", 1, at(2));
    pods(&mut series, "idle", 0, at(3));
    pods(&mut series, "other", 0, at(3));
    assert_eq!(series.groups.len(), 1, "nothing is kept of workloads that have neither");
}

#[test]
fn series_go_two_hours_after_the_last_pod_and_the_last_count_whichever_is_later() {
    const TTL: i64 = 7200;
    // Count at 0; pods told at 0 and again at the time given; expiry just before and at the time expected.
    for (told, counted_again, expected) in [
        (Some((0, 100)), None, 100 + TTL),
        (Some((0, 100)), Some(500), 500 + TTL),
        (Some((0, 500)), Some(100), 500 + TTL),
        (None, None, TTL),
        (None, Some(50), 50 + TTL),
    ] {
        let mut series = limited(100);
        ended(&mut series, "web", at(0));
        pods(&mut series, "live", 1, at(0));
        failed(&mut series, "live", at(0));
        if let Some((pods_now, gone)) = told {
            pods(&mut series, "web", 2, at(pods_now));
            let mut events = vec![gone];
            events.extend(counted_again);
            events.sort_unstable();
            for time in events {
                if time == gone {
                    pods(&mut series, "web", 0, at(time));
                } else {
                    ended(&mut series, "web", at(time));
                }
            }
        } else if let Some(time) = counted_again {
            ended(&mut series, "web", at(time));
        }
        series.expire(at(expected).plus_ms(-1));
        assert!(shown(&series).contains("T:web"), "{told:?} {counted_again:?}: gone too early");
        series.expire(at(expected));
        assert!(!shown(&series).contains(":web"), "{told:?} {counted_again:?}: {}", shown(&series));
        series.expire(at(1_000_000));
        assert_eq!(shown(&series), "F:live=1 P:live=1", "what has pods stays");
        assert_eq!(series.evicted(), 0);
    }
}

#[test]
fn a_workload_that_comes_back_is_born_again() {
    let mut series = limited(100);
    ended(&mut series, "web", at(0));
    series.expire(at(7200));
    assert_eq!(shown(&series), "");
    ended(&mut series, "web", at(7300));
    assert_eq!(
        series.terminations().map(|(_, sample)| (sample.value, sample.born)).collect::<Vec<_>>(),
        [(1, at(7300))]
    );
    // Its pods were told while it had no series: they count again.
    pods(&mut series, "job", 1, at(7300));
    series.expire(at(90_000));
    ended(&mut series, "job", at(90_000));
    series.expire(at(900_000));
    assert_eq!(shown(&series), "T:job=1 L:job P:job=1");
}

#[test]
fn nodes_go_by_their_last_count() {
    let mut series = limited(100);
    pods(&mut series, "web", 1, at(0));
    ended(&mut series, "web", at(0));
    let mut elsewhere = termination("web");
    elsewhere.node = "node-2".into();
    series.apply(&Effect::Terminated(Box::new(elsewhere)), at(100));
    series.expire(at(7200));
    assert_eq!(shown(&series), "T:web=2 N:node-2=1 L:web P:web=1");
}

#[test]
fn at_the_limit_workloads_without_pods_go_first_the_oldest_count_before_the_others() {
    let mut series = limited(5);
    pods(&mut series, "live", 1, at(0));
    failed(&mut series, "live", at(0));
    failed(&mut series, "older", at(1));
    failed(&mut series, "newer", at(2));
    restarted(&mut series, "older", at(3));
    assert_eq!(shown(&series), "R:older=1 F:live=1 F:newer=1 F:older=1 P:live=1");
    failed(&mut series, "a", at(4));
    assert_eq!(
        shown(&series),
        "R:older=1 F:a=1 F:live=1 F:older=1 P:live=1",
        "newer was counted on before older"
    );
    assert_eq!(series.evicted(), 1);
    failed(&mut series, "b", at(5));
    assert_eq!(shown(&series), "F:a=1 F:b=1 F:live=1 P:live=1", "a workload goes as a whole");
    assert_eq!((series.evicted(), series.overflowed()), (3, 0));
}

#[test]
fn a_workload_with_pods_is_never_evicted_and_counts_overflow() {
    let mut series = limited(2);
    for workload in ["a", "b"] {
        pods(&mut series, workload, 1, at(0));
        failed(&mut series, workload, at(0));
    }
    // Each took one series with its first counter; the gauges of pods found room only once.
    assert_eq!(shown(&series), "F:overflow=1 F:a=1 P:a=1");
    for _ in 0..3 {
        ended(&mut series, "c", at(1));
        restarted(&mut series, "c", at(1));
    }
    failed(&mut series, "d", at(1));
    assert_eq!(shown(&series), "T:overflow=3 R:overflow=3 F:overflow=2 F:a=1 N:overflow=3 P:a=1");
    assert_eq!((series.evicted(), series.overflowed()), (0, 11));
    failed(&mut series, "a", at(2));
    assert!(shown(&series).contains("F:a=2"), "series that are there go on counting");
    assert_eq!(series.overflowed(), 11);
}

#[test]
fn overflow_series_read_overflow_in_all_labels_are_zero_first_and_stay() {
    let mut series = Series::new(SeriesOptions {
        max_series: 0,
        copy_labels: vec!["team".into()],
        pod_label: true,
        ..SeriesOptions::default()
    });
    ended(&mut series, "web", at(0));
    failed(&mut series, "web", at(0));
    series.expire(at(1_000_000));
    let all = |of: &mut dyn Iterator<Item = (&str, Sample)>| {
        of.map(|(labels, sample)| (labels.to_owned(), sample)).collect::<Vec<_>>()
    };
    let sample = Sample { value: 1, floor: 0, born: at(0) };
    let expect = |names: &[&str]| {
        let labels: Vec<_> = names.iter().map(|name| format!("{name}=\"overflow\"")).collect();
        vec![(labels.join(","), sample)]
    };
    let mut names = CONTAINER_LABELS.to_vec();
    names.extend(["team", "pod"]);
    assert_eq!(all(&mut series.terminations()), expect(&names));
    assert_eq!(
        all(&mut series.pod_failures()),
        expect(&["namespace", "workload_type", "workload", "reason", "team", "pod"])
    );
    assert_eq!(all(&mut series.node_terminations()), expect(&["node", "cause"]));
    assert!(series.groups.is_empty(), "nothing is kept of a workload whose counts all overflowed");
}

#[test]
fn what_is_counted_now_is_not_evicted_for_its_own_sake() {
    let mut series = limited(1);
    ended(&mut series, "web", at(0));
    assert_eq!(shown(&series), "T:web=1 N:overflow=1");
    ended(&mut series, "db", at(1));
    assert_eq!(shown(&series), "T:db=1 N:overflow=2");
    assert_eq!(series.evicted(), 1);
}

#[test]
fn room_that_became_free_shows_the_gauge_of_pods() {
    let mut series = limited(1);
    pods(&mut series, "web", 1, at(0));
    failed(&mut series, "web", at(0));
    assert_eq!(shown(&series), "F:web=1");
    series.options.max_series = 2;
    pods(&mut series, "web", 2, at(1));
    assert_eq!(shown(&series), "F:web=1 P:web=2");
}

#[test]
fn a_name_that_begins_like_another_is_another_workload() {
    let mut series = limited(100);
    for workload in ["web", "web-2", "we", "web\"", "web\",x=\""] {
        failed(&mut series, workload, at(0));
    }
    pods(&mut series, "web-2", 1, at(0));
    pods(&mut series, "web\",x=\"", 1, at(0));
    series.expire(at(7200));
    let left: Vec<_> = series.pod_failures().map(|(labels, _)| labels.to_owned()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn nothing_is_left_of_many_workloads_that_came_and_went() {
    let mut series = limited(1000);
    for i in 0..20_000_i64 {
        let workload = format!("job-{i}");
        pods(&mut series, &workload, 1, at(i));
        ended(&mut series, &workload, at(i));
        pods(&mut series, &workload, 0, at(i + 1));
        assert!(series.len() <= 1004);
    }
    assert_eq!(series.overflowed(), 0);
    series.expire(at(1_000_000));
    assert_eq!(series.len(), 0);
    assert!(series.groups.is_empty() && series.idle.is_empty() && series.node_counted.is_empty());
    assert!(series.containers.is_empty() && series.last_terminations.is_empty());
}

/// One step of a random life: what, to which of a few workloads, and how many seconds later.
type Step = (u8, u8, u8, u16);

/// Every counter series by family and labels.
fn counters(series: &Series) -> BTreeMap<(char, String), Sample> {
    let family = |letter: char, of: Vec<(&str, Sample)>| {
        of.into_iter().map(move |(labels, sample)| ((letter, labels.to_owned()), sample)).collect::<Vec<_>>()
    };
    let mut all = BTreeMap::new();
    all.extend(family('T', series.terminations().collect()));
    all.extend(family('R', series.restarts().collect()));
    all.extend(family('F', series.pod_failures().collect()));
    all.extend(family('N', series.node_terminations().collect()));
    all
}

fn live(max_series: usize, steps: &[Step]) {
    let mut series = limited(max_series);
    let mut now = at(0);
    let mut pods_of: BTreeMap<String, u32> = BTreeMap::new();
    for (kind, which, number, seconds) in steps {
        now = now.plus_ms(i64::from(*seconds) * 1000);
        let workload = format!("w{}", which % 5);
        let before = counters(&series);
        match kind % 6 {
            0 | 1 => {
                let mut termination = termination(&workload);
                termination.node = format!("n{}", number % 3).into();
                termination.outcome.exit_code = ExitCode(Some(i32::from(number % 3)));
                series.apply(&Effect::Terminated(Box::new(termination)), now);
            }
            2 => restarted(&mut series, &workload, now),
            3 => failed(&mut series, &workload, now),
            4 => {
                let count = u32::from(number % 3);
                pods(&mut series, &workload, count, now);
                pods_of.insert(workload, count);
            }
            _ => series.expire(now),
        }
        shown(&series);
        assert!(series.len <= max_series && series.overflow_len <= 4);
        let after = counters(&series);
        for (key, old) in &before {
            let alive =
                pods_of.iter().any(|(name, pods)| *pods > 0 && key.1.contains(&format!("\"{name}\"")));
            match after.get(key) {
                Some(new) => assert!(new.born == old.born && new.value >= old.value, "{key:?} went back"),
                None => assert!(!alive && !key.1.contains("overflow"), "{key:?} went while it has pods"),
            }
        }
    }
    series.expire(now.plus_ms(i64::from(u32::MAX)));
    let alive = pods_of.values().filter(|pods| **pods > 0).count();
    assert!(series.groups.len() <= alive, "only workloads with pods are left");
}

proptest::proptest! {
    // The seed is fixed (.cargo/config.toml): what failed fails again, and nothing has to be kept for that.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_bounds_hold_and_no_counter_goes_back(
        max_series in 0..20_usize,
        steps in proptest::collection::vec(proptest::prelude::any::<Step>(), 0..120),
    ) {
        live(max_series, &steps);
    }
}
