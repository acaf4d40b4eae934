//! /api/v1/terminations: the last terminations as JSON, newest first.

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::gate::Handle;
use super::{App, Held, hold};
use crate::board::{self, CAPACITY, Row};
use crate::termination::{Cause, ExitCode};
use crate::text::clean;

/// The answer.
#[derive(Serialize)]
struct Answer<'a> {
    terminations: Vec<Row<'a>>,
}

/// The answer to a request that can't be understood.
#[derive(Serialize)]
struct Refusal {
    error: String,
}

pub(super) async fn terminations(
    State(app): State<App>,
    handle: Option<Extension<Handle>>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Response {
    let query = match query(&parameters) {
        Ok(query) => query,
        Err(error) => return json(StatusCode::BAD_REQUEST, Bytes::from(encode(&Refusal { error }))),
    };
    let held = hold(handle).await;
    let options = &app.published.options;
    let found = app.published.terminations(&query);
    let terminations =
        found.iter().map(|row| Row::new(row, &options.runbooks, options.show_messages)).collect();
    let answer = Answer { terminations };
    json(StatusCode::OK, Held::bytes(encode(&answer), held))
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text
}

fn json(status: StatusCode, body: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}

/// The filters that a request names. One that is not known is refused, since to ignore it would show more than
/// was asked for.
fn query(parameters: &[(String, String)]) -> Result<board::Query, String> {
    let mut query = board::Query::default();
    for (name, value) in parameters {
        match name.as_str() {
            "namespace" => query.namespace = Some(value.clone()),
            "workload" => query.workload = Some(value.clone()),
            "exit_code" => query.exit_code = Some(exit_code(value)?),
            "cause" => query.cause = Some(cause(value)?),
            "limit" => query.limit = Some(limit(value)?),
            other => {
                let other = clean(other);
                return Err(format!(
                    "'{other}' is no filter; there are namespace, workload, exit_code, cause, limit"
                ));
            }
        }
    }
    Ok(query)
}

fn exit_code(value: &str) -> Result<ExitCode, String> {
    match value {
        "unknown" => Ok(ExitCode::UNKNOWN),
        number => number
            .parse()
            .map(|code| ExitCode(Some(code)))
            .map_err(|_| format!("exit_code: '{}' is neither a number nor unknown", clean(value))),
    }
}

fn cause(value: &str) -> Result<Cause, String> {
    Cause::from_word(value).ok_or_else(|| {
        let words: Vec<_> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
        format!("cause: '{}' is none of {}", clean(value), words.join(", "))
    })
}

fn limit(value: &str) -> Result<usize, String> {
    let limit = value.parse().ok().filter(|limit| (1..=CAPACITY).contains(limit));
    limit.ok_or_else(|| format!("limit: '{}' is no number from 1 to {CAPACITY}", clean(value)))
}
