//! A simulated cluster: an API server and kubelets' behaviour, for the demo, the tests and the benchmarks.
//!
//! It holds no code of the exporter and shares none of its types for what the API sends: the exporter meets
//! it as it meets any cluster, through a client.

pub mod api;
pub mod faults;
pub mod form;
pub mod kinds;
mod list;
mod query;
mod selector;
mod serve;
pub mod status;
pub mod store;
mod watch;

pub use api::{ApiServer, Settings};
pub use faults::{Call, Fault, Faults, Logged, Matcher, StreamFault, Verb};
pub use kinds::Resource;
pub use selector::Selector;
pub use serve::Served;
pub use status::ApiError;
