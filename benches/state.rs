//! What saving costs: `cargo bench --bench state`.
//!
//! 20,000 pods and 100,000 series: the first save, a start from it, and saves of 60 terminations each. Then a year of
//! churn, one save an hour: 200 pods a time come, crash and go, and their workloads with them.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use exitcode_exporter::board::Board;
use exitcode_exporter::core::{Effect, Input, Options, Scope, State};
use exitcode_exporter::pod::Pod;
use exitcode_exporter::rows::Batch;
use exitcode_exporter::series::{Series, SeriesOptions};
use exitcode_exporter::store::{About, FORM, Kept, Store};
use exitcode_exporter::time::Timestamp;

const ALL: Scope = Scope(0);
const PODS: usize = 20_000;
const START: Timestamp = Timestamp(1_767_225_600_000);
const HOUR: i64 = 3_600_000;

fn main() {
    let dir = std::env::temp_dir().join(format!("exitcode-state-bench-{}", std::process::id()));
    let hours = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(8_760);
    let mut cluster = Cluster::new(&dir);
    cluster.fill();
    let first = cluster.save();
    println!(
        "{PODS} pods, {} series: first save {:.2} s, file {:.1} MB",
        cluster.kept.series.len(),
        first.as_secs_f64(),
        cluster.megabytes()
    );
    cluster.sixty_a_second();
    drop(cluster.store.take());
    let started = Instant::now();
    let begun = begin(&dir, 2);
    println!("start from it: {:.2} s", started.elapsed().as_secs_f64());
    cluster.store = Some(begun);
    cluster.churn(hours);
    drop(cluster);
    let _ = std::fs::remove_dir_all(&dir);
}

struct Cluster {
    dir: std::path::PathBuf,
    kept: Kept,
    store: Option<Store>,
    now: Timestamp,
    version: u64,
}

fn empty() -> Kept {
    Kept {
        state: State::new(Options { scopes: 1, events: true, ..Options::default() }),
        series: Series::new(SeriesOptions::default()),
        board: Board::default(),
    }
}

fn begin(dir: &Path, writer: u64) -> Store {
    Store::begin(dir, writer, None, empty, START).unwrap().store
}

impl Cluster {
    fn new(dir: &Path) -> Self {
        let mut kept = empty();
        kept.state.track();
        kept.series.track();
        kept.board.track();
        let store = Some(begin(dir, 1));
        let mut cluster = Self { dir: dir.to_owned(), kept, store, now: START, version: 0 };
        cluster.apply(Input::ListBegins(ALL));
        cluster.apply(Input::Listed { scope: ALL, whole: true });
        cluster
    }

    fn apply(&mut self, input: Input) {
        for effect in self.kept.state.apply(input, self.now) {
            self.kept.series.apply(&effect, self.now);
            if let Effect::Terminated(termination) = &effect {
                self.kept.board.add((**termination).clone());
            }
        }
    }

    /// Every pod ends in five ways, in one of its two containers.
    fn fill(&mut self) {
        for number in 0..PODS {
            for attempt in 0..6 {
                self.see(number, 0, attempt);
            }
        }
    }

    fn see(&mut self, number: usize, generation: i64, attempt: i32) {
        self.version += 1;
        let pod = pod(number, generation, attempt, self.version);
        self.apply(Input::PodSeen(ALL, pod));
    }

    fn save(&mut self) -> Duration {
        let started = Instant::now();
        let mut batch = Batch::default();
        self.kept.state.save(&mut batch);
        self.kept.series.save(&mut batch);
        self.kept.board.save(&mut batch);
        let about = About { form: FORM, writer: 1, ..About::default() };
        self.store.as_mut().unwrap().write(&batch, &about).unwrap();
        self.kept.series.saved(self.now);
        self.kept.board.saved();
        started.elapsed()
    }

    #[allow(clippy::cast_precision_loss)] // megabytes
    fn megabytes(&self) -> f64 {
        std::fs::metadata(self.dir.join("state.redb")).unwrap().len() as f64 / 1e6
    }

    /// A hundred batches of 60 terminations.
    fn sixty_a_second(&mut self) {
        let (mut saving, mut applying) = (Duration::ZERO, Duration::ZERO);
        let processor = processor_time();
        for second in 0..100_usize {
            let started = Instant::now();
            for number in 0..60_usize {
                let which = (second * 7_919 + number * 331) % PODS;
                self.see(which, 0, 6 + i32::try_from(second).unwrap());
            }
            applying += started.elapsed();
            saving += self.save();
        }
        let processor = processor_time() - processor;
        println!(
            "60 terminations a second: {:.1} ms of work and {:.1} ms until saved, {:.1} ms of CPU in all, a second",
            applying.as_secs_f64() * 10.0,
            saving.as_secs_f64() * 10.0,
            processor.as_secs_f64() * 10.0
        );
    }

    fn churn(&mut self, hours: i64) {
        let (mut largest, mut slowest) = (0.0_f64, Duration::ZERO);
        for hour in 1..=hours {
            self.now = START.plus_ms(hour * HOUR);
            self.kept.series.expire(self.now);
            let turn = usize::try_from(hour).unwrap() * 200;
            for number in (0..200).map(|number| (turn + number) % PODS) {
                let before = (hour * 200 - 1) / i64::try_from(PODS).unwrap();
                self.version += 1;
                let gone = pod(number, before, 1, self.version);
                self.apply(Input::PodDeleted(ALL, gone));
                for attempt in 0..2 {
                    self.see(number, before + 1, attempt);
                }
            }
            slowest = slowest.max(self.save());
            largest = largest.max(self.megabytes());
            if hour % (hours / 12).max(1) == 0 {
                println!(
                    "hour {hour}: {} series, file {:.1} MB, at most {largest:.1} MB, slowest save {:.2} s",
                    self.kept.series.len(),
                    self.megabytes(),
                    slowest.as_secs_f64()
                );
            }
        }
    }
}

/// CPU time of this process.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn pod(number: usize, generation: i64, attempt: i32, version: u64) -> Box<Pod> {
    let id = |attempt: i32| format!("containerd://{number:020x}{generation:020x}{attempt:024x}");
    let code = [1, 2, 137, 139, 143][usize::try_from(attempt).unwrap() % 5];
    let last = match attempt {
        0 => "{}".to_owned(),
        _ => format!(
            r#"{{"terminated": {{"exitCode": {code}, "reason": "Error", "containerID": "{}",
                "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:10Z"}}}}"#,
            id(attempt - 1)
        ),
    };
    let group = number / 2;
    let text = format!(
        r#"{{"metadata": {{"name": "checkout-{group}-{generation}-5c8-{number}", "namespace": "team-{}",
                "uid": "5f8dd5e6-{number:08}-{generation:08}", "resourceVersion": "{version}",
                "labels": {{"pod-template-hash": "5c8"}}, "ownerReferences": [{{"kind": "ReplicaSet",
                "name": "checkout-{group}-{generation}-5c8", "uid": "rs-{group}", "controller": true}}]}},
            "spec": {{"nodeName": "node-{}", "restartPolicy": "Always", "containers": [{{"name": "app"}}]}},
            "status": {{"phase": "Running", "containerStatuses": [
                {{"name": "app", "containerID": "{}", "restartCount": {attempt}, "image": "shop/app:1",
                  "state": {{"running": {{"startedAt": "2026-01-01T00:00:00Z"}}}}, "lastState": {last}}}]}}}}"#,
        number % 20,
        number % 100,
        id(attempt),
    );
    Box::new(serde_json::from_str(&text).unwrap())
}
