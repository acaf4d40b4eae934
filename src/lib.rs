//! Counts why containers of a Kubernetes cluster ended.

pub mod core;
pub mod owners;
pub mod pod;
pub mod termination;
pub mod time;
pub mod watch;
