//! Counts why containers of a Kubernetes cluster ended.

pub mod core;
pub mod pod;
pub mod sim;
pub mod termination;
pub mod time;
