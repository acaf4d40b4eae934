//! The query of a list or watch, and what of it the API server refuses.

use std::time::Duration;

use serde::Deserialize;

use super::status::ApiError;

/// The query of a request. Numbers and booleans come as text, so that bad ones are refused in words.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Options {
    watch: String,
    limit: String,
    r#continue: String,
    resource_version: String,
    resource_version_match: String,
    allow_watch_bookmarks: String,
    timeout_seconds: String,
    send_initial_events: String,
    field_selector: String,
    label_selector: String,
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "" => None,
        "0" | "false" => Some(false),
        _ => Some(true),
    }
}

fn number<T: std::str::FromStr>(text: &str, name: &str) -> Result<Option<T>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let bad = |_| ApiError::bad_request(format!("invalid {name}: Invalid value: \"{text}\""));
    text.parse().map(Some).map_err(bad)
}

fn invalid(text: &str) -> ApiError {
    ApiError::new(422, format!("ListOptions.meta.k8s.io \"\" is invalid: {text}"))
}

impl Options {
    pub(super) fn is_watch(&self) -> bool {
        truth(&self.watch) == Some(true)
    }

    pub(super) fn bookmarks(&self) -> bool {
        truth(&self.allow_watch_bookmarks) == Some(true)
    }

    pub(super) fn send_initial_events(&self) -> Option<bool> {
        truth(&self.send_initial_events)
    }

    pub(super) fn field_selector(&self) -> &str {
        &self.field_selector
    }

    pub(super) fn continue_token(&self) -> Option<&str> {
        (!self.r#continue.is_empty()).then_some(&self.r#continue)
    }

    pub(super) fn resource_version_match(&self) -> &str {
        &self.resource_version_match
    }

    pub(super) fn revision(&self) -> Result<Option<u64>, ApiError> {
        number(&self.resource_version, "resource version")
    }

    /// The limit where it counts: not for resourceVersion=0, which is answered whole from the cache.
    pub(super) fn effective_limit(&self) -> Result<Option<usize>, ApiError> {
        let limit = number(&self.limit, "limit")?.filter(|limit| *limit > 0);
        Ok(limit.filter(|_| self.resource_version != "0"))
    }

    pub(super) fn timeout(&self) -> Result<Option<Duration>, ApiError> {
        Ok(number(&self.timeout_seconds, "timeoutSeconds")?.map(Duration::from_secs))
    }

    /// Kubernetes: `ValidateListOptions` in apimachinery's pkg/apis/meta/internalversion/validation.
    pub(super) fn validate_list(&self) -> Result<(), ApiError> {
        self.validate_labels()?;
        let word = self.resource_version_match.as_str();
        if truth(&self.send_initial_events).is_some() {
            return Err(invalid("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"));
        }
        if self.continue_token().is_some() && !self.resource_version.is_empty() {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        match word {
            "" => Ok(()),
            "Exact" | "NotOlderThan" if self.resource_version.is_empty() => Err(invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is \
                 provided",
            )),
            "Exact" if self.resource_version == "0" => Err(invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"Exact\" is forbidden for \
                 resourceVersion \"0\"",
            )),
            "Exact" | "NotOlderThan" => Ok(()),
            word => Err(invalid(&format!("resourceVersionMatch: Unsupported value: \"{word}\""))),
        }
    }

    pub(super) fn validate_watch(&self) -> Result<(), ApiError> {
        self.validate_labels()?;
        match (truth(&self.send_initial_events).is_some(), self.resource_version_match.as_str()) {
            (true, "NotOlderThan") | (false, "") => Ok(()),
            (true, _) => Err(invalid(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to \
                 NotOlderThan",
            )),
            (false, _) => Err(invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless \
                 sendInitialEvents is provided",
            )),
        }
    }

    fn validate_labels(&self) -> Result<(), ApiError> {
        if self.label_selector.is_empty() {
            return Ok(());
        }
        Err(ApiError::bad_request("the simulated API server takes no label selectors"))
    }
}
