//! Probes: alive while it answers, ready while the counts are worth reading.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::{App, line};
use crate::text::clean;

pub(super) async fn live() -> Response {
    line(StatusCode::OK, "ok")
}

pub(super) async fn ready(State(app): State<App>) -> Response {
    match app.published.ready() {
        Ok(()) => line(StatusCode::OK, "ok"),
        Err(reason) => line(StatusCode::SERVICE_UNAVAILABLE, &clean(&reason)),
    }
}
