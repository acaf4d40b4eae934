//! The simulated API server answers as a real one: lists, pages, watches, bookmarks, 410, faults.

#![cfg(test)]
#![allow(clippy::unwrap_used)] // in the helpers, too

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use exitcode_exporter::sim::{ApiError, ApiServer, Fault, Matcher, Resource, Settings, StreamFault, Verb};
use futures_util::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt;

fn pod(name: &str) -> Value {
    json!({"metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}")}, "spec": {}})
}

fn server_with(pods: &[&str]) -> ApiServer {
    let server = ApiServer::default();
    for name in pods {
        server.store().put(Resource::Pods, pod(name));
    }
    server
}

async fn request(server: &ApiServer, uri: &str, headers: &[(&str, &str)]) -> http::Response<Body> {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn get(server: &ApiServer, uri: &str) -> (u16, Value) {
    let response = request(server, uri, &[]).await;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap())
}

/// What a list shows: revision, names, continue token.
async fn names(server: &ApiServer, uri: &str) -> (String, Vec<String>, Option<String>) {
    let (code, list) = get(server, uri).await;
    assert_eq!(code, 200, "{list}");
    let items = list["items"].as_array().unwrap().iter();
    let names = items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    let text = |pointer: &str| list.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    (text("/metadata/resourceVersion").unwrap(), names, text("/metadata/continue"))
}

/// An open watch, read line by line.
struct Watching {
    body: BodyDataStream,
    text: String,
}

impl Watching {
    async fn open(server: &ApiServer, uri: &str) -> Self {
        let response = request(server, uri, &[]).await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next line; `None` at the end, an error if the connection breaks.
    async fn line(&mut self) -> Result<Option<Value>, axum::Error> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let line = serde_json::from_str(line).unwrap();
                self.text = rest.to_owned();
                return Ok(Some(line));
            }
            match self.body.next().await.transpose()? {
                Some(bytes) => self.text.push_str(std::str::from_utf8(&bytes).unwrap()),
                None => return Ok(None),
            }
        }
    }

    /// The next event as `TYPE name@resourceVersion`.
    async fn event(&mut self) -> String {
        let event = self.line().await.unwrap().unwrap();
        let metadata = &event["object"]["metadata"];
        let name = metadata["name"].as_str().unwrap_or("-");
        let revision = metadata["resourceVersion"].as_str().unwrap_or("-");
        format!("{} {name}@{revision}", event["type"].as_str().unwrap())
    }

    async fn is_quiet(&mut self, duration: Duration) -> bool {
        timeout(duration, self.line()).await.is_err()
    }
}

#[tokio::test]
async fn a_list_shows_all_namespaces_or_one_with_the_store_s_revision() {
    let server = server_with(&["b", "a"]);
    server.store().put(Resource::Pods, json!({"metadata": {"namespace": "other", "name": "z"}}));
    let (revision, all, more) = names(&server, "/api/v1/pods").await;
    assert_eq!((revision.as_str(), all, more), ("4", vec!["z".into(), "a".into(), "b".into()], None));
    let (_, shop, _) = names(&server, "/api/v1/namespaces/shop/pods").await;
    assert_eq!(shop, ["a", "b"]);
    let (_, list) = get(&server, "/api/v1/namespaces/other/pods").await;
    assert_eq!(
        list,
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "4"}, "items": [
            {"metadata": {"namespace": "other", "name": "z", "resourceVersion": "4"}}
        ]})
    );
}

#[tokio::test]
async fn pages_show_one_state_although_the_cluster_changes_between_them() {
    let server = server_with(&["a", "b", "c", "d", "e"]);
    let (revision, first, token) = names(&server, "/api/v1/pods?limit=2").await;
    assert_eq!((revision.as_str(), first), ("6", vec!["a".to_owned(), "b".to_owned()]));
    server.store().delete(Resource::Pods, "shop", "c");
    server.store().put(Resource::Pods, pod("cc"));
    let next = |token: Option<String>| format!("/api/v1/pods?limit=2&continue={}", token.unwrap());
    let (revision, second, token) = names(&server, &next(token)).await;
    assert_eq!((revision.as_str(), second), ("6", vec!["c".to_owned(), "d".to_owned()]));
    let (revision, third, token) = names(&server, &next(token)).await;
    assert_eq!((revision.as_str(), third, token), ("6", vec!["e".to_owned()], None));
}

#[tokio::test]
async fn a_limit_is_ignored_for_resource_version_0() {
    let server = server_with(&["a", "b", "c"]);
    let (_, all, token) = names(&server, "/api/v1/pods?limit=2&resourceVersion=0").await;
    assert_eq!((all.len(), token), (3, None));
}

#[tokio::test]
async fn an_expired_token_gets_410_and_one_for_the_inconsistent_rest() {
    let server = server_with(&["a", "b", "c"]);
    let (_, _, token) = names(&server, "/api/v1/pods?limit=2").await;
    server.store().put(Resource::Pods, pod("bb"));
    server.store().compact();
    let (code, status) = get(&server, &format!("/api/v1/pods?limit=2&continue={}", token.unwrap())).await;
    assert_eq!((code, &status["reason"], &status["kind"]), (410, &json!("Expired"), &json!("Status")));
    let rest = status["metadata"]["continue"].as_str().unwrap();
    let (_, rest, _) = names(&server, &format!("/api/v1/pods?limit=2&continue={rest}")).await;
    assert_eq!(rest, ["bb", "c"]);
}

#[tokio::test(start_paused = true)]
async fn resource_versions_of_lists_mean_what_the_api_concepts_say() {
    let server = server_with(&["a", "b"]);
    server.store().put(Resource::Pods, pod("c"));
    let listed = async |query: &str| names(&server, &format!("/api/v1/pods?{query}")).await.1.len();
    assert_eq!(listed("resourceVersion=3&resourceVersionMatch=NotOlderThan").await, 3);
    assert_eq!(listed("resourceVersion=3&resourceVersionMatch=Exact").await, 2);
    assert_eq!(listed("resourceVersion=3").await, 3);
    assert_eq!(listed("resourceVersion=3&limit=10").await, 2);
    let refused = async |query: &str| {
        let (code, status) = get(&server, &format!("/api/v1/pods?{query}")).await;
        (code, status["reason"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused("resourceVersion=9").await, (504, "Timeout".to_owned()));
    assert_eq!(refused("resourceVersion=x").await, (400, "BadRequest".to_owned()));
    assert_eq!(refused("resourceVersionMatch=Exact").await, (422, "Invalid".to_owned()));
    assert_eq!(refused("resourceVersion=0&resourceVersionMatch=Exact").await, (422, "Invalid".to_owned()));
    assert_eq!(refused("fieldSelector=message%3Dx").await, (400, "BadRequest".to_owned()));
    server.store().compact();
    server.store().put(Resource::Pods, pod("d"));
    assert_eq!(refused("resourceVersion=3&resourceVersionMatch=Exact").await, (410, "Expired".to_owned()));
}

#[tokio::test]
async fn a_watch_goes_on_from_its_resource_version() {
    let server = server_with(&["a", "b"]);
    let mut watching = Watching::open(&server, "/api/v1/pods?watch=1&resourceVersion=2").await;
    assert_eq!(watching.event().await, "ADDED b@3");
    server.store().put(Resource::Pods, pod("a"));
    assert_eq!(watching.event().await, "MODIFIED a@4");
    server.store().put(Resource::Nodes, json!({"metadata": {"name": "node-1"}}));
    server.store().delete(Resource::Pods, "shop", "a");
    assert_eq!(watching.event().await, "DELETED a@6");
}

#[tokio::test]
async fn a_selector_makes_objects_come_and_go() {
    let server = ApiServer::default();
    let in_phase =
        |phase: &str| json!({"metadata": {"namespace": "shop", "name": "a"}, "status": {"phase": phase}});
    let uri = "/api/v1/pods?watch=true&resourceVersion=1&fieldSelector=status.phase%3DRunning";
    let mut watching = Watching::open(&server, uri).await;
    for phase in ["Pending", "Running", "Running", "Failed"] {
        server.store().put(Resource::Pods, in_phase(phase));
    }
    server.store().delete(Resource::Pods, "shop", "a");
    server.store().put(Resource::Pods, in_phase("Running"));
    let mut events = Vec::new();
    for _ in 0..4 {
        events.push(watching.event().await);
    }
    assert_eq!(events, ["ADDED a@3", "MODIFIED a@4", "DELETED a@5", "ADDED a@7"]);
}

#[tokio::test]
async fn a_watch_from_before_the_history_gets_410_in_either_form() {
    for gone_as_http_status in [false, true] {
        let server = ApiServer::new(Settings { gone_as_http_status, ..Settings::default() });
        server.store().put(Resource::Pods, pod("a"));
        server.store().compact();
        let uri = "/api/v1/pods?watch=1&resourceVersion=1";
        let status = if gone_as_http_status {
            let (code, status) = get(&server, uri).await;
            assert_eq!(code, 410);
            status
        } else {
            let mut watching = Watching::open(&server, uri).await;
            let event = watching.line().await.unwrap().unwrap();
            assert_eq!(event["type"], "ERROR");
            assert_eq!(watching.line().await.unwrap(), None);
            event["object"].clone()
        };
        assert_eq!(
            status,
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "too old resource version: 1 (2)", "reason": "Expired", "code": 410,
            })
        );
    }
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_once_a_minute_and_before_the_end_if_they_are_asked_for() {
    let server = server_with(&["a"]);
    let begin = tokio::time::Instant::now();
    let uri = "/api/v1/pods?watch=1&resourceVersion=2&timeoutSeconds=130&allowWatchBookmarks=true";
    let mut watching = Watching::open(&server, uri).await;
    server.store().put(Resource::Nodes, json!({"metadata": {"name": "node-1"}}));
    let mut bookmarks = Vec::new();
    while let Some(event) = watching.line().await.unwrap() {
        bookmarks.push((begin.elapsed().as_secs(), event["object"].clone()));
    }
    let bookmark = json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "3"},
        "spec": {"containers": null}, "status": {},
    });
    assert_eq!(bookmarks, [(60, bookmark.clone()), (120, bookmark.clone()), (128, bookmark)]);
    assert_eq!(begin.elapsed().as_secs(), 130);
    let mut without = Watching::open(&server, "/api/v1/pods?watch=1&resourceVersion=3").await;
    assert!(without.is_quiet(Duration::from_secs(600)).await);
}

#[tokio::test]
async fn a_streaming_list_ends_with_the_annotated_bookmark_and_goes_on_as_a_watch() {
    let server = server_with(&["a", "b"]);
    let uri = "/api/v1/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
               &allowWatchBookmarks=true";
    let mut watching = Watching::open(&server, uri).await;
    assert_eq!(watching.event().await, "ADDED a@2");
    assert_eq!(watching.event().await, "ADDED b@3");
    assert_eq!(
        watching.line().await.unwrap().unwrap()["object"]["metadata"],
        json!({"resourceVersion": "3", "annotations": {"k8s.io/initial-events-end": "true"}})
    );
    server.store().put(Resource::Pods, pod("c"));
    assert_eq!(watching.event().await, "ADDED c@4");
    let (code, _) = get(&server, "/api/v1/pods?watch=1&sendInitialEvents=true").await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn owners_are_answered_as_metadata_if_that_is_asked_for() {
    let server = ApiServer::default();
    let object =
        json!({"metadata": {"namespace": "shop", "name": "web", "uid": "u"}, "spec": {"replicas": 1}});
    server.store().put(Resource::Rollouts, object);
    let uri = "/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/web";
    let accept = ("accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let body = request(&server, uri, &[accept]).await.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"namespace": "shop", "name": "web", "uid": "u", "resourceVersion": "2"},
        })
    );
    let (_, whole) = get(&server, uri).await;
    assert_eq!((&whole["kind"], &whole["spec"]), (&json!("Rollout"), &json!({"replicas": 1})));
    let (code, status) = get(&server, "/apis/apps/v1/namespaces/shop/replicasets/web").await;
    assert_eq!((code, &status["message"]), (404, &json!("replicasets.apps \"web\" not found")));
    let (_, discovery) = get(&server, "/apis/argoproj.io/v1alpha1").await;
    assert_eq!(discovery["resources"][0]["kind"], "Rollout");
    assert_eq!(get(&server, "/apis/example.com/v1").await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn faults_strike_as_often_as_they_are_told_to() {
    let server = server_with(&["a", "b"]);
    let faults = server.faults();
    let lists = Matcher::any().verbs(&[Verb::List]).of(Resource::Pods);
    let throttled = ApiError { retry_after: Some(7), ..ApiError::new(429, "slow down") };
    faults.next(2, lists.clone(), Fault::Refuse(throttled));
    for _ in 0..2 {
        let response = request(&server, "/api/v1/pods", &[]).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (429, &"7".parse().unwrap())
        );
    }
    assert_eq!(get(&server, "/api/v1/events").await.0, 200);
    assert_eq!(get(&server, "/api/v1/pods").await.0, 200);

    faults.next(1, lists.clone(), Fault::CutAfter(40));
    let body = request(&server, "/api/v1/pods", &[]).await.into_body();
    assert!(body.collect().await.is_err());

    faults.next(1, lists.clone(), Fault::SilentAfter(40));
    let mut body = request(&server, "/api/v1/pods", &[]).await.into_body().into_data_stream();
    assert_eq!(body.next().await.unwrap().unwrap().len(), 40);
    assert!(timeout(Duration::from_secs(3600), body.next()).await.is_err());

    faults.next(1, lists.clone(), Fault::NeverAnswer);
    assert!(timeout(Duration::from_secs(3600), request(&server, "/api/v1/pods", &[])).await.is_err());

    faults.next(1, lists.clone(), Fault::AsOf(2));
    assert_eq!(names(&server, "/api/v1/pods").await.1, ["a"]);
    faults.next(1, lists, Fault::AsOf(2));
    assert_eq!(get(&server, "/api/v1/pods?resourceVersion=3").await.0, 504);

    let token = names(&server, "/api/v1/pods?limit=1").await.2.unwrap();
    faults.next(1, Matcher::any().continued(true), Fault::ExpireContinue);
    assert_eq!(get(&server, &format!("/api/v1/pods?limit=1&continue={token}")).await.0, 410);

    let streaming = Matcher::any().verbs(&[Verb::StreamingList]);
    faults.always(streaming, Fault::Refuse(ApiError::new(422, "sendInitialEvents is forbidden")));
    let uri = "/api/v1/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    assert_eq!(get(&server, uri).await.0, 422);
    assert_eq!(get(&server, uri).await.0, 422);
    faults.clear();

    faults.next(1, Matcher::any().verbs(&[Verb::Watch]), Fault::Empty);
    let mut watching = Watching::open(&server, "/api/v1/pods?watch=1&resourceVersion=1").await;
    assert_eq!(watching.line().await.unwrap(), None);
    faults.next(1, Matcher::any().verbs(&[Verb::Watch]), Fault::ErrorEvent(ApiError::new(500, "etcd")));
    let mut watching = Watching::open(&server, "/api/v1/pods?watch=1&resourceVersion=1").await;
    assert_eq!(watching.line().await.unwrap().unwrap()["object"]["code"], 500);
    assert_eq!(watching.line().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn open_watches_are_struck_where_they_match() {
    let server = server_with(&[]);
    let pods = Matcher::any().of(Resource::Pods);
    let open = async || Watching::open(&server, "/api/v1/pods?watch=1&resourceVersion=1").await;
    let mut events = Watching::open(&server, "/api/v1/events?watch=1&resourceVersion=1").await;

    let (mut one, mut two) = (open().await, open().await);
    assert_eq!(*server.faults().watches().borrow(), 3);
    server.faults().strike(pods.clone(), StreamFault::End);
    assert_eq!((one.line().await.unwrap(), two.line().await.unwrap()), (None, None));

    let mut one = open().await;
    server.faults().strike(pods.clone(), StreamFault::CutInEvent);
    assert!(one.line().await.is_err());
    assert!(one.text.starts_with(r#"{"type":"MODIFIED""#));

    let mut one = open().await;
    server.faults().strike(pods.clone(), StreamFault::Error(ApiError::new(410, "gone")));
    assert_eq!(one.line().await.unwrap().unwrap()["object"]["reason"], "Expired");
    assert_eq!(one.line().await.unwrap(), None);

    let mut one = open().await;
    server.faults().strike(pods.clone(), StreamFault::Send("{\"type\":\"MODIFIED\"}\n".to_owned()));
    assert_eq!(one.line().await.unwrap().unwrap(), json!({"type": "MODIFIED"}));
    server.faults().strike(pods, StreamFault::Silence);
    server.store().put(Resource::Pods, pod("a"));
    assert!(one.is_quiet(Duration::from_secs(900)).await);
    assert!(events.is_quiet(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn a_token_can_be_required_and_rotated_and_requests_are_logged() {
    let server = server_with(&["a"]);
    server.faults().require_token(Some("one"));
    let code = async |token: &str| {
        request(&server, "/api/v1/pods", &[("authorization", &format!("Bearer {token}"))]).await.status()
    };
    assert_eq!(get(&server, "/api/v1/pods").await.0, 401);
    assert_eq!(code("one").await, 200);
    server.faults().require_token(Some("two"));
    assert_eq!((code("one").await, code("two").await), (401.try_into().unwrap(), 200.try_into().unwrap()));
    let log = server.faults().drain_log();
    assert_eq!(log.len(), 4);
    assert_eq!((log[0].method.as_str(), log[0].uri.as_str()), ("GET", "/api/v1/pods"));
    assert_eq!(log[0].call.as_ref().unwrap().verb, Verb::List);
}

#[tokio::test]
async fn over_a_socket_a_crash_of_the_server_cuts_every_connection() {
    let server = server_with(&["a"]);
    // An address of its own: nobody else takes a port that is free again.
    let listener = tokio::net::TcpListener::bind("127.0.0.4:0").await.unwrap();
    let served = server.serve(listener).unwrap();
    let config = kube::Config::new(served.url().parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let pods = kube::Api::<k8s_openapi::api::core::v1::Pod>::all(client);
    let list = pods.list_metadata(&kube::api::ListParams::default()).await.unwrap();
    assert_eq!(list.items[0].metadata.name.as_deref(), Some("a"));
    let watching = pods.watch(&kube::api::WatchParams::default(), "2").await.unwrap();
    let mut watching = Box::pin(watching);
    server.store().put(
        Resource::Pods,
        json!({"metadata": {"namespace": "shop", "name": "b"}, "spec": {"containers": []}}),
    );
    assert!(matches!(watching.next().await.unwrap().unwrap(), kube::api::WatchEvent::Added(_)));
    drop(served);
    let end = timeout(Duration::from_secs(10), watching.next()).await.unwrap();
    assert!(end.is_none_or(|event| event.is_err()));
    assert!(pods.list_metadata(&kube::api::ListParams::default()).await.is_err());
}
