//! Counts why the containers of a Kubernetes cluster ended: by exit code, reason, cause and workload.
//!
//! ```text
//!  API server                                                                            Prometheus, people
//!      │                                                                                         ▲
//!      │ watch/   pods, events ─┐                                                                │ server/
//!      │ owners   look-ups ─────┤                                                                │
//!      ▼          clock ────────┤                                                                │
//!                               ▼ Input                                               published: │
//!            ┌─ core::State::apply(input, now) -> Vec<Effect> ─┐    series (counts) · board (last 1,000) · log
//!            │ ledger    which attempts ended                  │                          ▲
//!            │ cause     who ended them (evidence, facts)      │ Effect                   │
//!            │ workload  whose they are                        ├──────────────► publish ──┘
//!            │ pending   ended, but cause or owner undecided   │                   ▲
//!            └─────────────── changed rows ────────────────────┘ ──► store ── what is on disk may be shown
//! ```
//!
//! One way only: inputs, one core that can't fail, effects. [`exporter`] is the loop between them, and one task
//! owns the core.
//!
//! # Invariants
//!
//! - Every termination that the API shows counts once: an account per container moves on with each status and never
//!   falls ([`core`]), whatever order, loss or repetition of objects there is.
//! - Nothing is invented: events explain an end and never make one; a container that never ran has none.
//! - Counters never go back while the process, or its saved state, lives: nothing is shown that is not on disk.
//! - What is accounted but not yet counted is part of the state, so stopping at any moment loses nothing of it.
//! - Everything that grows has a bound: series, evidence, remembered pods, what waits, connections, bodies.
//! - No object of the API is logged or kept as it came: only the fields of [`pod`] are ever read.
//!
//! # Rooms, in reading order
//!
//! | room | holds |
//! |---|---|
//! | [`termination`], [`time`], [`text`] | the field's words, points in time, text made fit to be shown |
//! | [`pod`] | what is read of the API's objects |
//! | [`core`] | the counting, synchronous and without IO |
//! | [`watch`], [`owners`] | list, watch and look-ups, through every fault |
//! | [`exporter`] | the loop from inputs to effects |
//! | [`publish`], [`series`], [`board`], [`log`], [`runbook`] | what becomes of the effects |
//! | [`store`], [`rows`] | the saved state |
//! | [`exposition`], [`server`] | the formats, and who may ask for them how often |
//! | [`options`], [`duration`] | the command line |
//! | [`report`] | one look at a cluster, for people |
//! | [`sim`], [`demo`] | a simulated cluster for the demo, the tests and the benchmarks |

pub mod board;
pub mod core;
pub mod demo;
pub mod duration;
pub mod exporter;
pub mod exposition;
pub mod log;
pub mod options;
pub mod owners;
pub mod pod;
pub mod publish;
pub mod report;
pub mod rows;
pub mod runbook;
pub mod series;
pub mod server;
pub mod sim;
mod sources;
pub mod store;
pub mod termination;
pub mod text;
pub mod time;
pub mod watch;
