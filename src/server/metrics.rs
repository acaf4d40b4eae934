//! /metrics: negotiated, encoded on the blocking pool, written after every lock is released.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::gate::{Handle, Holding};
use super::{App, Held, MAX_ZERO_FOR, hold, line, negotiate};
use crate::duration::PromDuration;
use crate::exposition::Format;
use crate::publish::Published;
use crate::text::clean;

/// Every scraper of the Prometheus family sends it; other clients see true values at once.
const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

pub(super) async fn metrics(
    State(app): State<App>,
    handle: Option<Extension<Handle>>,
    headers: HeaderMap,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    if !app.published.is_open() {
        return line(StatusCode::SERVICE_UNAVAILABLE, "not yet: the first list of pods is not in");
    }
    let asked = match zero_for(&query) {
        Ok(asked) => asked,
        Err(text) => return line(StatusCode::BAD_REQUEST, &text),
    };
    let zero_for = asked.unwrap_or(app.published.options.zero_for);
    let zero_for = headers.contains_key(SCRAPE_TIMEOUT).then_some(zero_for);
    let format = negotiate::format(&joined(&headers, &header::ACCEPT));
    let gzip = negotiate::gzip(&joined(&headers, &header::ACCEPT_ENCODING));
    let held = hold(handle).await;
    match encoded(&app, held, format, zero_for, gzip).await {
        Some(body) => answer(format, gzip, body),
        None => line(StatusCode::INTERNAL_SERVER_ERROR, "encoding failed"),
    }
}

/// The first `zero_for` of the query.
fn zero_for(query: &[(String, String)]) -> Result<Option<Duration>, String> {
    let Some((_, text)) = query.iter().find(|(name, _)| name == "zero_for") else { return Ok(None) };
    match text.parse::<PromDuration>() {
        Ok(PromDuration(duration)) if duration <= MAX_ZERO_FOR => Ok(Some(duration)),
        Ok(_) => Err(format!("zero_for: '{}' is more than 1h", clean(text))),
        Err(error) => Err(format!("zero_for: '{}' is {error}", clean(text))),
    }
}

/// A header that may be given several times, as one list.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

async fn encoded(
    app: &App,
    held: Option<Holding>,
    format: Format,
    zero_for: Option<Duration>,
    gzip: bool,
) -> Option<Bytes> {
    let encoder = Arc::clone(&app.encoders).acquire_owned().await.ok()?;
    let published = Arc::clone(&app.published);
    let encode = move || {
        // Moved in, so that a client that goes away does not make room for a third.
        let _encoder = encoder;
        encode(&published, format, zero_for, gzip)
    };
    let bytes = tokio::task::spawn_blocking(encode).await.ok()??;
    Some(Held::bytes(bytes, held))
}

fn encode(published: &Published, format: Format, zero_for: Option<Duration>, gzip: bool) -> Option<Vec<u8>> {
    let text = published.render(format, zero_for);
    if !gzip {
        return Some(text);
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 10), Compression::fast());
    encoder.write_all(&text).ok()?;
    encoder.finish().ok()
}

fn answer(format: Format, gzip: bool, body: Bytes) -> Response {
    let mut response = Body::from(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(
        header::VARY,
        HeaderValue::from_static("Accept, Accept-Encoding, X-Prometheus-Scrape-Timeout-Seconds"),
    );
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}
