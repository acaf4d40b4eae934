//! Pages for people.

use axum::http::StatusCode;
use axum::response::{Html, Response};

use super::line;

const INDEX: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><title>exitcode-exporter</title></head>
<body>
<h1>exitcode-exporter</h1>
<p>Counts why the containers of this cluster ended.</p>
<ul>
<li><a href=\"/metrics\">/metrics</a>: the counts</li>
<li><a href=\"/api/v1/terminations\">/api/v1/terminations</a>: the last terminations</li>
<li><a href=\"/livez\">/livez</a>, <a href=\"/readyz\">/readyz</a>: whether it works</li>
</ul>
</body>
</html>
";

pub(super) async fn index() -> Html<&'static str> {
    Html(INDEX)
}

pub(super) async fn not_found() -> Response {
    line(StatusCode::NOT_FOUND, "not found; / lists what there is")
}

pub(super) async fn method_not_allowed() -> Response {
    line(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed")
}
