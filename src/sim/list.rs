//! Lists: pages, continue tokens and the meaning of `resourceVersion`.
//!
//! Kubernetes: staging/src/k8s.io/apiserver/pkg/storage/cacher, and "Resource versions in lists" of the
//! API concepts: limit is ignored for resourceVersion=0; with a limit, a resource version without
//! resourceVersionMatch is meant exactly.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use serde_json::{Value, json};

use super::form::Form;
use super::kinds::Resource;
use super::query::Options;
use super::selector::Selector;
use super::status::ApiError;
use super::store::{Compacted, Object, Query, Store};

/// Objects in one chunk of a body, so that no list is rendered whole.
const CHUNK: usize = 32;

/// Which state a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The newest.
    Newest,
    /// That of this revision and no other.
    Exactly(u64),
}

/// Where a list goes on: the revision of its first page (0: the newest) and the last key of the page before.
struct Token {
    revision: u64,
    namespace: String,
    name: String,
}

impl Token {
    fn parse(text: &str) -> Result<Self, ApiError> {
        let bad = || ApiError::bad_request("continue key is not valid");
        let mut parts = text.splitn(3, '~');
        let revision = parts.next().and_then(|r| r.parse().ok()).ok_or_else(bad)?;
        let (namespace, name) = parts.next().zip(parts.next()).ok_or_else(bad)?;
        Ok(Self { revision, namespace: namespace.to_owned(), name: name.to_owned() })
    }

    fn render(revision: u64, namespace: &str, name: &str) -> String {
        format!("{revision}~{namespace}~{name}")
    }
}

/// Answers a list. `as_of` makes the server one that lags behind.
pub(super) async fn list(
    store: &Store,
    resource: Resource,
    namespace: Option<&str>,
    options: &Options,
    form: Form,
    as_of: Option<u64>,
) -> Result<Body, ApiError> {
    options.validate_list()?;
    let selector = Selector::parse(resource, options.field_selector())?;
    let token = options.continue_token().map(Token::parse).transpose()?;
    let newest = as_of.unwrap_or_else(|| store.revision());
    let state = match &token {
        Some(token) if token.revision == 0 => State::Newest,
        Some(token) => State::Exactly(token.revision),
        None => state(options, store, newest, as_of.is_some()).await?,
    };
    let revision = match state {
        State::Newest => as_of.unwrap_or_else(|| store.revision()),
        State::Exactly(revision) => revision,
    };
    let limit = options.effective_limit()?;
    let query = Query {
        resource,
        namespace,
        start: token.as_ref().map(|token| (token.namespace.as_str(), token.name.as_str())),
        keep: &|object| selector.matches(object),
        max: limit.map_or(usize::MAX, |limit| limit.saturating_add(1)),
    };
    let expired = |Compacted { oldest }| match &token {
        Some(t) => ApiError::continue_expired(Token::render(0, &t.namespace, &t.name)),
        None => ApiError::too_old(revision, oldest),
    };
    let mut objects = store.snapshot(&query, revision).map_err(expired)?;
    let metadata = cut(&mut objects, limit, revision);
    Ok(body(resource, form, &metadata, objects))
}

/// Cuts a page to its limit; its metadata tells where the list goes on.
fn cut(objects: &mut Vec<Arc<Object>>, limit: Option<usize>, revision: u64) -> Value {
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let Some(limit) = limit.filter(|limit| objects.len() > *limit) {
        objects.truncate(limit);
        if let Some(last) = objects.last() {
            metadata["continue"] = Token::render(revision, &last.namespace, &last.name).into();
        }
    }
    metadata
}

/// The 410 of a list that goes on with an expired token.
pub(super) fn expired(options: &Options) -> ApiError {
    let token = options.continue_token().and_then(|token| Token::parse(token).ok());
    let rest = token.map(|t| Token::render(0, &t.namespace, &t.name)).unwrap_or_default();
    ApiError::continue_expired(rest)
}

async fn state(options: &Options, store: &Store, newest: u64, lags: bool) -> Result<State, ApiError> {
    let Some(asked) = options.revision()? else { return Ok(State::Newest) };
    let exactly = match options.resource_version_match() {
        "" => options.effective_limit()?.is_some(),
        word => word == "Exact",
    };
    if asked == 0 {
        return Ok(State::Newest);
    }
    if asked > newest {
        let waited_for = if lags { u64::MAX } else { asked };
        wait_for(store, waited_for).await.map_err(|()| ApiError::too_large(asked, newest))?;
    }
    Ok(if exactly { State::Exactly(asked) } else { State::Newest })
}

/// The API server waits 3 s for a revision to come.
async fn wait_for(store: &Store, asked: u64) -> Result<(), ()> {
    let mut changed = store.subscribe();
    let come = changed.wait_for(|revision| *revision >= asked);
    match tokio::time::timeout(Duration::from_secs(3), come).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(()),
    }
}

fn body(resource: Resource, form: Form, metadata: &Value, objects: Vec<Arc<Object>>) -> Body {
    let (kind, api_version) = form.list_kind(resource);
    let head = format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{metadata},"items":["#);
    let first = (Some(head), 0_usize, objects);
    Body::from_stream(stream::unfold(first, move |(head, from, objects)| async move {
        let mut chunk = Vec::from(head?);
        let to = from.saturating_add(CHUNK).min(objects.len());
        for (index, object) in objects.iter().enumerate().take(to).skip(from) {
            if index > 0 {
                chunk.push(b',');
            }
            form.item(object, &mut chunk);
        }
        let more = (to < objects.len()).then(String::new);
        if more.is_none() {
            chunk.extend_from_slice(b"]}\n");
        }
        Some((Ok::<_, std::io::Error>(Bytes::from(chunk)), (more, to, objects)))
    }))
}
