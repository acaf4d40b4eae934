//! Counts why containers of a Kubernetes cluster ended.

pub mod board;
pub mod core;
pub mod duration;
pub mod exporter;
pub mod exposition;
pub mod log;
pub mod options;
pub mod owners;
pub mod pod;
pub mod publish;
pub mod runbook;
pub mod series;
pub mod server;
pub mod sim;
mod sources;
pub mod termination;
pub mod time;
pub mod watch;
