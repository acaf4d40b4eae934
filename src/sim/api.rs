//! The simulated API server: requests in, answers out, over HTTP or in the process.

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures_util::{StreamExt, stream};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::faults::{Call, Fault, Faults, Logged, Verb};
use super::form::Form;
use super::kinds::{Resource, Target, target};
use super::query::Options;
use super::status::ApiError;
use super::store::{DEFAULT_HISTORY, Store};
use super::{list, watch};

/// How the API server behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Changes that are kept; watches from before them get 410.
    pub history: usize,
    /// How far apart bookmarks are.
    pub bookmarks: Duration,
    /// How long a watch lasts that sets no timeoutSeconds.
    pub watch_timeout: Duration,
    /// A watch from before the history is refused with HTTP 410; else answered with 200 and an ERROR event.
    pub gone_as_http_status: bool,
    /// Nobody may ask which cluster this is: the namespace kube-system is forbidden.
    pub hides_cluster: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            history: DEFAULT_HISTORY,
            bookmarks: Duration::from_secs(60),
            watch_timeout: Duration::from_secs(2_700),
            gone_as_http_status: false,
            hides_cluster: false,
        }
    }
}

/// The simulated API server; clones are the same server.
#[derive(Clone, Default)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    store: Arc<Store>,
    faults: Faults,
    settings: Settings,
    /// Uid of the namespace kube-system: every start is another cluster.
    cluster: String,
}

impl ApiServer {
    /// A server without objects.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let store = Arc::new(Store::new(settings.history));
        let cluster = format!("00000000-0000-4000-8000-{:012x}", fastrand::u64(..1 << 48));
        Self { inner: Arc::new(Inner { store, faults: Faults::default(), settings, cluster }) }
    }

    /// Its objects.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.inner.store
    }

    /// What is to go wrong, and the log of requests.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// The server as a service, to be called in the process or served.
    pub fn router(&self) -> Router {
        Router::new().fallback(handle).with_state(self.clone())
    }

    /// A client that calls the server in the process, without a network: works under tokio's paused clock.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.router(), "default")
    }

    async fn answer(&self, request: &Parts) -> Response {
        let uri = &request.uri;
        let target = target(uri.path());
        let options = Query::<Options>::try_from_uri(uri).map(|Query(options)| options);
        let options = options.map_err(|error| ApiError::bad_request(error.body_text()));
        let call = call(target.as_ref(), options.as_ref().ok());
        self.faults().log(Logged {
            at: Instant::now(),
            method: request.method.to_string(),
            uri: uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string),
            call: call.clone(),
        });
        if !self.faults().authorized(bearer(&request.headers)) {
            return ApiError::new(401, "Unauthorized").into_response();
        }
        if request.method != Method::GET {
            return ApiError::new(405, "the server does not allow this method on the requested resource")
                .into_response();
        }
        let (Some(target), Ok(options)) = (target, &options) else {
            let unknown = ApiError::new(404, "the server could not find the requested resource");
            return options.err().unwrap_or(unknown).into_response();
        };
        match (target, call) {
            (Target::Objects { name, .. }, Some(call)) => {
                self.objects(call, name.as_deref(), options, &request.headers).await
            }
            (Target::KubeSystem, _) if self.inner.settings.hides_cluster => {
                ApiError::new(403, "namespaces \"kube-system\" is forbidden").into_response()
            }
            (target, _) => other(&target, &self.inner.cluster),
        }
    }

    async fn objects(
        &self,
        call: Call,
        name: Option<&str>,
        options: &Options,
        headers: &HeaderMap,
    ) -> Response {
        let fault = self.faults().take(&call);
        let mut as_of = None;
        let mut body_fault = None;
        match fault {
            Some(Fault::Refuse(error)) => return error.into_response(),
            Some(Fault::RefuseRaw(code, text)) => return raw(code, text),
            Some(Fault::NeverAnswer) => return pending().await,
            Some(Fault::Empty) => return json_body(Body::empty()),
            Some(Fault::ExpireContinue) => return list::expired(options).into_response(),
            Some(Fault::ErrorEvent(error)) => {
                return json_body(Body::from(watch::line("ERROR", &error.status().to_string())));
            }
            Some(Fault::Delay(duration)) => sleep(duration).await,
            Some(Fault::AsOf(revision)) => as_of = Some(revision),
            Some(fault @ (Fault::CutAfter(_) | Fault::SilentAfter(_))) => body_fault = Some(fault),
            None => {}
        }
        match self.body(call, name, options, headers, as_of).await {
            Ok(body) => json_body(match body_fault {
                Some(Fault::CutAfter(bytes)) => broken(body, bytes, true),
                Some(Fault::SilentAfter(bytes)) => broken(body, bytes, false),
                _ => body,
            }),
            Err(error) => error.into_response(),
        }
    }

    async fn body(
        &self,
        call: Call,
        name: Option<&str>,
        options: &Options,
        headers: &HeaderMap,
        as_of: Option<u64>,
    ) -> Result<Body, ApiError> {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let form = Form::of(accept).ok_or_else(|| {
            ApiError::new(406, "only the following media types are accepted: application/json")
        })?;
        let store = self.store();
        let Call { resource, namespace, .. } = &call;
        match call.verb {
            Verb::Get => get(store, *resource, namespace.as_deref(), name.unwrap_or_default(), form),
            Verb::List => list::list(store, *resource, namespace.as_deref(), options, form, as_of).await,
            Verb::Watch | Verb::StreamingList => {
                watch::watch(Arc::clone(store), self.faults(), call, options, form, &self.inner.settings)
            }
        }
    }
}

async fn handle(State(server): State<ApiServer>, request: Request) -> Response {
    server.answer(&request.into_parts().0).await
}

fn call(target: Option<&Target>, options: Option<&Options>) -> Option<Call> {
    let Some(Target::Objects { resource, namespace, name }) = target else { return None };
    let (options, namespace) = (options?, namespace.clone());
    let verb = match name {
        Some(_) => Verb::Get,
        None if !options.is_watch() => Verb::List,
        None if options.send_initial_events() == Some(true) => Verb::StreamingList,
        None => Verb::Watch,
    };
    let continued = options.continue_token().is_some();
    Some(Call { verb, resource: *resource, namespace, continued })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn json_body(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn raw(code: u16, text: String) -> Response {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
    (code, [(CONTENT_TYPE, "text/html")], text).into_response()
}

fn get(
    store: &Store,
    resource: Resource,
    namespace: Option<&str>,
    name: &str,
    form: Form,
) -> Result<Body, ApiError> {
    let object = store.get(resource, namespace.unwrap_or_default(), name).ok_or_else(|| {
        let group = if resource.group().is_empty() { "" } else { "." };
        ApiError::new(404, format!("{}{group}{} \"{name}\" not found", resource.plural(), resource.group()))
    })?;
    let mut out = Vec::new();
    form.object(&object, &mut out);
    Ok(Body::from(out))
}

fn other(target: &Target, cluster: &str) -> Response {
    let body: Value = match target {
        Target::Health => return "ok".into_response(),
        Target::Version => json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0"}),
        Target::KubeSystem => json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {"name": "kube-system", "uid": cluster},
        }),
        Target::Groups => groups(),
        Target::Discovery(api_version) => discovery(api_version),
        Target::Objects { .. } => return ApiError::bad_request("not a request for objects").into_response(),
    };
    Json(body).into_response()
}

fn groups() -> Value {
    let versions: BTreeSet<&str> = Resource::ALL.iter().map(|resource| resource.api_version()).collect();
    let groups = versions.iter().filter_map(|api_version| {
        let (group, version) = api_version.split_once('/')?;
        let version = json!({"groupVersion": api_version, "version": version});
        Some(json!({"name": group, "versions": [version], "preferredVersion": version}))
    });
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups.collect::<Vec<_>>()})
}

fn discovery(api_version: &str) -> Value {
    let resources = Resource::ALL.iter().filter(|resource| resource.api_version() == api_version);
    let resources = resources.map(|resource| {
        json!({
            "name": resource.plural(), "singularName": resource.kind().to_lowercase(),
            "namespaced": resource.namespaced(), "kind": resource.kind(), "verbs": ["get", "list", "watch"],
        })
    });
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version,
        "resources": resources.collect::<Vec<_>>(),
    })
}

/// Lets `bytes` bytes of a body through, then breaks it: with an error, or by silence.
fn broken(body: Body, bytes: usize, with_error: bool) -> Body {
    let state = (body.into_data_stream(), Some(bytes));
    Body::from_stream(stream::unfold(state, move |(mut body, left)| async move {
        let left = left?;
        if left == 0 {
            if !with_error {
                return pending().await;
            }
            return Some((Err(io::Error::other("the connection is cut")), (body, None)));
        }
        let chunk: Bytes = body.next().await?.unwrap_or_default();
        let chunk = chunk.slice(..left.min(chunk.len()));
        let left = left.saturating_sub(chunk.len());
        Some((Ok(chunk), (body, Some(left))))
    }))
}
