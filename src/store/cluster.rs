//! Which cluster this is: by the uid of the namespace kube-system, which lives as long as its cluster.

use std::time::Duration;

use kube::Client;
use tokio::time::Instant;

use super::StateHealth;
use crate::pod::MetadataOnly;
use crate::watch::http::{self, BodyError};
use crate::watch::{Failure, FailureReason};

const PATH: &str = "/api/v1/namespaces/kube-system";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json";
/// How long one attempt may take, and the pause before the next.
const WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const LARGEST: usize = 1 << 20;

/// The uid of the namespace kube-system, asked for until there is an answer. `None` if it may not be asked for: then
/// one cluster's state can't be told from another's.
pub async fn cluster_uid(client: &Client, health: &StateHealth) -> Option<String> {
    loop {
        let failure = match ask(client).await {
            Ok(uid) => return Some(uid),
            Err(failure) => failure,
        };
        if failure.reason == FailureReason::Forbidden || failure.code == Some(404) {
            tracing::warn!(
                reason = failure.detail,
                effect = "the saved state of another cluster would be gone on from",
                "cannot tell which cluster this is"
            );
            return None;
        }
        health
            .problem(Some(format!("the API server does not say which cluster this is: {}", failure.detail)));
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(client: &Client) -> Result<String, Failure> {
    let response = http::get(client, PATH, METADATA, WITHIN).await?;
    let mut body = Vec::new();
    http::collect(response.into_body(), &mut body, LARGEST, Instant::now() + WITHIN).await.map_err(
        |error| match error {
            BodyError::Failed(failure) => failure,
            BodyError::TooLarge => Failure::new(FailureReason::Other, "the answer is too large"),
        },
    )?;
    let object: MetadataOnly = serde_json::from_slice(&body)
        .map_err(|_| Failure::new(FailureReason::Undecodable, "the answer is no object"))?;
    Some(object.metadata.uid)
        .filter(|uid| !uid.is_empty())
        .ok_or_else(|| Failure::new(FailureReason::Undecodable, "the answer has no uid"))
}
