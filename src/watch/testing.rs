//! A scripted API server behind the real client type, for tests under the paused clock.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::Client;
use kube::client::Body;
use tokio::time::Instant;
use tower::{BoxError, service_fn};

/// What a body does next. After the last step it ends cleanly.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Text(String),
    Wait(Duration),
    /// The connection breaks.
    Cut,
    /// Nothing more comes, and nothing closes.
    Silence,
}

/// A scripted answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    steps: Vec<Step>,
    headers_come: bool,
}

impl Answer {
    pub(crate) fn ok(text: impl Into<String>) -> Self {
        Self { status: 200, headers: Vec::new(), steps: Vec::new(), headers_come: true }.text(text)
    }

    pub(crate) fn empty() -> Self {
        Self::ok("")
    }

    /// A refusal with a Status object.
    pub(crate) fn refused(status: u16, message: &str) -> Self {
        let body =
            serde_json::json!({"kind": "Status", "status": "Failure", "message": message, "code": status});
        Self { status, ..Self::ok(body.to_string()) }
    }

    /// Accepted, and never answered.
    pub(crate) fn never() -> Self {
        Self { headers_come: false, ..Self::empty() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn text(mut self, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.steps.push(Step::Text(text));
        }
        self
    }

    pub(crate) fn wait(mut self, seconds: u64) -> Self {
        self.steps.push(Step::Wait(Duration::from_secs(seconds)));
        self
    }

    pub(crate) fn cut(mut self) -> Self {
        self.steps.push(Step::Cut);
        self
    }

    pub(crate) fn silence(mut self) -> Self {
        self.steps.push(Step::Silence);
        self
    }

    async fn response(self) -> Response<http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>> {
        if !self.headers_come {
            std::future::pending::<()>().await;
        }
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        let frames = futures_util::stream::iter(self.steps).filter_map(|step| async {
            match step {
                Step::Text(text) => Some(Ok(Frame::data(Bytes::from(text)))),
                Step::Cut => Some(Err(BoxError::from("connection reset by peer"))),
                Step::Wait(time) => {
                    tokio::time::sleep(time).await;
                    None
                }
                Step::Silence => std::future::pending().await,
            }
        });
        let body = http_body_util::BodyExt::boxed_unsync(StreamBody::new(frames));
        response.body(body).expect("a response")
    }
}

/// A request that was made.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
}

impl Asked {
    pub(crate) fn is_watch(&self) -> bool {
        self.url.contains("watch=1") && !self.is_streaming_list()
    }

    pub(crate) fn is_streaming_list(&self) -> bool {
        self.url.contains("sendInitialEvents=true")
    }

    pub(crate) fn is_page(&self) -> bool {
        self.url.contains("limit=")
    }
}

/// The requests made so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Asked>>>);

impl Log {
    pub(crate) fn all(&self) -> Vec<Asked> {
        self.0.lock().expect("no panic").clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.all().len()
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.all().into_iter().map(|asked| asked.url).collect()
    }

    /// The most requests in any ten minutes.
    pub(crate) fn most_in_ten_minutes(&self) -> usize {
        let all = self.all();
        let window = |from: &Asked| {
            let end = from.at + Duration::from_secs(600);
            all.iter().filter(|asked| asked.at >= from.at && asked.at < end).count()
        };
        all.iter().map(window).max().unwrap_or(0)
    }
}

/// A client whose requests are answered by `answer`, which gets the number of the request, from 0.
pub(crate) fn server(answer: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> (Client, Log) {
    let log = Log::default();
    let (seen, answer) = (log.clone(), Arc::new(answer));
    let service = service_fn(move |request: Request<Body>| {
        let url = request.uri().to_string();
        let asked = Asked { at: Instant::now(), url, headers: request.headers().clone() };
        let number = seen.count();
        seen.0.lock().expect("no panic").push(asked.clone());
        let answer = answer(number, &asked);
        async move { Ok::<_, Infallible>(answer.response().await) }
    });
    (Client::new(service, "default"), log)
}

/// The same from a list of answers; the last one repeats.
pub(crate) fn script(answers: Vec<Answer>) -> (Client, Log) {
    server(move |number, _| answers.get(number).or(answers.last()).cloned().unwrap_or_else(Answer::never))
}

/// A pod as JSON.
pub(crate) fn pod(name: &str, version: u32) -> String {
    format!(r#"{{"metadata":{{"name":"{name}","uid":"uid-{name}","resourceVersion":"{version}"}}}}"#)
}

/// A watch line.
pub(crate) fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

pub(crate) fn added(name: &str, version: u32) -> String {
    event("ADDED", &pod(name, version))
}

pub(crate) fn modified(name: &str, version: u32) -> String {
    event("MODIFIED", &pod(name, version))
}

pub(crate) fn deleted(name: &str, version: u32) -> String {
    event("DELETED", &pod(name, version))
}

pub(crate) fn bookmark(version: u32) -> String {
    event("BOOKMARK", &format!(r#"{{"kind":"Pod","metadata":{{"resourceVersion":"{version}"}}}}"#))
}

/// The end of a streaming list.
pub(crate) fn initial_events_end(version: u32) -> String {
    let annotations = r#"{"k8s.io/initial-events-end":"true"}"#;
    event(
        "BOOKMARK",
        &format!(r#"{{"metadata":{{"resourceVersion":"{version}","annotations":{annotations}}}}}"#),
    )
}

pub(crate) fn error(code: u16, reason: &str) -> String {
    event(
        "ERROR",
        &format!(r#"{{"kind":"Status","code":{code},"reason":"{reason}","message":"SECRET of an object"}}"#),
    )
}

/// A page of a list.
pub(crate) fn page(version: u32, next: &str, items: &[String]) -> String {
    let items = items.join(",");
    format!(r#"{{"metadata":{{"resourceVersion":"{version}","continue":"{next}"}},"items":[{items}]}}"#)
}
