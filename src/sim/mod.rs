//! A simulated cluster: an API server and what kubelets and controllers do to pods, for the demo, the tests and
//! the benchmarks.
//!
//! The exporter meets it as it meets any cluster, through a client: over HTTP ([`ApiServer::serve`]) or in the
//! process under a paused clock ([`ApiServer::client`]). From outside to inside:
//!
//! - [`api`], `query`, [`status`], `list`, `watch`, [`form`], `serve`: requests and answers;
//! - [`faults`]: what goes wrong between client and server, and a log of requests;
//! - [`store`], [`kinds`], `selector`: the objects and their history;
//! - [`cluster`], `life`, `kubelet`, `restarts`, `deaths`, `endings`, `recorder`, `family`: what happens to
//!   pods;
//! - `objects`, `conditions`, `pod_json`: pods and how they are written;
//! - [`script`], [`workloads`]: which workloads there are and what happens to them, as a table;
//! - [`load`], `load_pod`, `load_template`: many realistic pods and a rate of ends, for benchmarks;
//! - [`truth`]: what an exporter must have counted;
//! - [`demo`]: the whole for `exitcode-exporter demo`.

pub mod api;
pub mod clock;
pub mod cluster;
mod conditions;
mod deaths;
pub mod demo;
mod endings;
mod family;
pub mod faults;
pub mod form;
pub mod ids;
pub mod kinds;
mod kubelet;
mod life;
mod list;
pub mod load;
mod load_pod;
mod load_template;
mod objects;
mod pod_json;
mod query;
mod recorder;
mod restarts;
pub mod script;
mod selector;
mod serve;
pub mod status;
pub mod store;
pub mod truth;
mod watch;
pub mod workloads;

pub use api::{ApiServer, Settings};
pub use cluster::{Cluster, ClusterSettings};
pub use demo::DemoCluster;
pub use faults::{Call, Fault, Faults, Logged, Matcher, StreamFault, Verb};
pub use kinds::Resource;
pub use load::{Load, LoadSettings};
pub use selector::Selector;
pub use serve::Served;
pub use status::ApiError;
pub use truth::{Counts, Ended};
