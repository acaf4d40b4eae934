//! What a crash leaves of the core: the rows that were saved, and nothing else.

use std::collections::BTreeMap;

use exitcode_exporter::core::{Effect, Options, Scope, State};
use exitcode_exporter::rows::{Batch, Row};
use exitcode_exporter::time::Timestamp;

#[derive(Debug, Default)]
pub struct Disk {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Disk {
    pub fn save(&mut self, state: &mut State) {
        let mut batch = Batch::default();
        state.save(&mut batch);
        for (key, value) in batch.rows() {
            match value {
                Some(value) => drop(self.rows.insert(key.to_vec(), value.to_vec())),
                None => drop(self.rows.remove(key)),
            }
        }
    }

    /// Another process goes on from it. Nothing may have been saved yet: then it begins anew.
    pub fn restore(&self, options: Options, now: Timestamp) -> (State, Vec<Effect>) {
        let mut state = State::new(options);
        for (key, value) in &self.rows {
            state.restore(&Row::new(key, value).expect("row")).expect("row");
        }
        let known = !self.rows.is_empty();
        let effects = state.resume(|_| Some(Scope(0)), &[known], now);
        state.track();
        (state, effects)
    }
}
