//! Recorded watch streams of a real kubelet, replayed into the core.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use exitcode_exporter::core::{Effect, Input, Options, OwnerAnswer, OwnerFound, Scope, State};
use exitcode_exporter::pod::{Event, Pod};
use exitcode_exporter::termination::Termination;
use exitcode_exporter::time::Timestamp;
use flate2::read::GzDecoder;
use serde_json::Value;

pub const ALL: Scope = Scope(0);

/// One line of a recording.
#[derive(Clone, Debug)]
pub struct Line {
    pub version: u64,
    pub kind: String,
    pub object: Value,
}

pub fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recordings").join(name)
}

/// The lines of one gzipped file; a last line that was cut is left out.
pub fn json_lines(recording: &str, file: &str) -> Vec<Value> {
    let path = folder(recording).join(file);
    let reader = BufReader::new(GzDecoder::new(std::fs::File::open(path).expect("recording")));
    reader.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()).collect()
}

/// Pods and events, recorded apart from one etcd, in the order of their resource versions.
pub fn merged(recording: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = ["pods.ndjson.gz", "events.ndjson.gz"]
        .iter()
        .flat_map(|file| json_lines(recording, file))
        .filter_map(|mut value| {
            let object = value.get_mut("object")?.take();
            let version = object.pointer("/metadata/resourceVersion")?.as_str()?.parse().ok()?;
            Some(Line { version, kind: value.get("type")?.as_str()?.to_owned(), object })
        })
        .filter(|line| line.kind != "BOOKMARK")
        .collect();
    lines.sort_by_key(|line| line.version);
    lines
}

/// The latest time that an object tells of: the replay's clock.
pub fn latest_time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) if text.len() >= 20 && text.ends_with('Z') => Timestamp::parse(text),
        Value::Array(items) => items.iter().filter_map(latest_time).max(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| *name != "deletionTimestamp")
            .filter_map(|(_, value)| latest_time(value))
            .max(),
        _ => None,
    }
}

pub fn input(line: &Line) -> Option<Input> {
    if line.object.get("involvedObject").is_some() {
        if line.kind == "DELETED" {
            return None;
        }
        let event: Event = serde_json::from_value(line.object.clone()).expect("event");
        return Some(Input::Event(Box::new(event)));
    }
    let pod: Pod = serde_json::from_value(line.object.clone()).expect("pod");
    Some(match line.kind.as_str() {
        "DELETED" => Input::PodDeleted(ALL, Box::new(pod)),
        _ => Input::PodSeen(ALL, Box::new(pod)),
    })
}

/// A core that has listed an empty cluster, with look-ups answered as the recorded clusters would have.
pub struct Replay {
    pub state: State,
    pub now: Timestamp,
    pub effects: Vec<Effect>,
}

impl Replay {
    pub fn new(options: Options) -> Self {
        let mut replay = Self { state: State::new(options), now: Timestamp(1_000_000), effects: Vec::new() };
        replay.apply(Input::ListBegins(ALL));
        replay.apply(Input::Listed { scope: ALL, whole: true });
        replay
    }

    pub fn apply(&mut self, input: Input) {
        let effects = self.state.apply(input, self.now);
        for effect in &effects {
            if let Effect::LookUp(key) = effect {
                // Nothing but Jobs has an owner there, and those of the CronJob are gone by the time one asks.
                let found = match &*key.kind {
                    "Job" => OwnerFound::NotFound,
                    _ => OwnerFound::Found(Box::new(exitcode_exporter::pod::Metadata {
                        name: key.name.to_string(),
                        ..Default::default()
                    })),
                };
                self.apply(Input::Owner(OwnerAnswer {
                    namespace: key.namespace.clone(),
                    uid: key.uid.clone(),
                    found,
                }));
            }
        }
        self.effects.extend(effects);
    }

    pub fn line(&mut self, line: &Line) {
        self.now = self.now.max(latest_time(&line.object).unwrap_or_default());
        if let Some(input) = input(line) {
            self.apply(input);
        }
    }

    pub fn run(recording: &str) -> Self {
        let mut replay = Self::new(Options { scopes: 1, events: true, ..Options::default() });
        for line in merged(recording) {
            replay.line(&line);
        }
        replay.wait(3000);
        replay
    }

    pub fn wait(&mut self, ms: i64) {
        self.now = self.now.plus_ms(ms);
        self.apply(Input::Tick);
    }

    pub fn terminations(&self) -> impl Iterator<Item = &Termination> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Terminated(termination) => Some(&**termination),
            _ => None,
        })
    }
}

/// Sums by key.
pub fn counts<K: Ord>(keys: impl Iterator<Item = (K, u64)>) -> BTreeMap<K, u64> {
    let mut counts = BTreeMap::new();
    for (key, count) in keys {
        *counts.entry(key).or_default() += count;
    }
    counts
}
