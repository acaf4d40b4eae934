//! The overview, and the answers where there is no page.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::layout::Layout;
use super::runbooks::{ended, ran_for};
use super::{App, line};
use crate::board::{Query, Row};
use crate::publish::Published;
use crate::runbook::OWN_BASE;
use crate::runbook::html::push_escaped;
use crate::runbook::library::Language;
use crate::termination::{Termination, signal_name};
use crate::text::clean;

/// How many terminations the overview shows.
const ROWS: usize = 100;

/// The overview.
pub(super) async fn index(State(app): State<App>) -> Response {
    let published = &app.published;
    let mut main = String::from("<h1>Why containers ended</h1>\n<p>");
    push_state(&mut main, published.ready());
    main.push_str(
        " &nbsp; <a href=\"metrics\">metrics</a> · <a href=\"runbooks/\">runbooks</a> · \
         <a href=\"api/v1/terminations\">last terminations as JSON</a> · <a href=\"readyz\">readiness</a> · \
         <a href=\"livez\">liveness</a></p>\n",
    );
    push_table(&mut main, published);
    let links = "<a href=\"runbooks/\">Runbooks</a><a href=\"metrics\">Metrics</a>";
    let layout = Layout {
        title: "exitcode-exporter",
        language: Language::English,
        root: "./",
        head: "",
        links,
        wide: true,
        main: &main,
    };
    layout.answer(StatusCode::OK)
}

fn push_state(out: &mut String, ready: Result<(), String>) {
    match ready {
        Ok(()) => out.push_str("<span class=\"state\">ready</span>"),
        Err(reason) => {
            out.push_str("<span class=\"state bad\">not ready: ");
            push_escaped(out, &clean(&reason));
            out.push_str("</span>");
        }
    }
}

fn push_table(out: &mut String, published: &Published) {
    let found = published.terminations(&Query { limit: Some(ROWS), ..Query::default() });
    if found.is_empty() {
        out.push_str("<p>No container has ended since this exporter started.</p>\n");
        return;
    }
    out.push_str("<table class=\"ends\"><thead><tr>");
    for heading in
        ["ended", "namespace", "workload", "container", "exit code", "reason", "cause", "ran for", "node"]
    {
        out.push_str(&format!("<th>{heading}</th>"));
    }
    out.push_str("</tr></thead><tbody>\n");
    for end in &found {
        push_row(out, published, end);
    }
    out.push_str("</tbody></table>\n");
}

fn push_row(out: &mut String, published: &Published, end: &Termination) {
    let row = Row::new(end, &published.options.runbooks, false);
    let signal = end.signal().map(|signal| format!(" {}", signal_name(signal))).unwrap_or_default();
    let workload = format!("{}/{}", row.workload_type, row.workload);
    let before = [
        &*ended(end),
        row.namespace,
        &workload,
        row.container,
        &format!("{}{signal}", end.outcome.exit_code),
        row.reason,
    ];
    out.push_str(if end.outcome.cause.is_expected() { "<tr class=\"soft\">" } else { "<tr>" });
    for cell in before {
        push_cell(out, cell);
    }
    out.push_str("<td><a href=\"");
    push_escaped(out, &relative(&row.runbook));
    out.push_str(&format!("\">{}</a></td>", row.cause));
    push_cell(out, &ran_for(row.ran_for));
    push_cell(out, row.node);
    out.push_str("</tr>\n");
}

fn push_cell(out: &mut String, text: &str) {
    out.push_str("<td>");
    push_escaped(out, &clean(text));
    out.push_str("</td>");
}

/// The exporter's own pages by a relative path, so that they are found behind a proxy too.
fn relative(link: &str) -> String {
    match link.strip_prefix(OWN_BASE) {
        Some(page) => format!("runbooks/{page}"),
        None => link.to_owned(),
    }
}

pub(super) async fn not_found() -> Response {
    line(StatusCode::NOT_FOUND, "not found; / lists what there is")
}

pub(super) async fn method_not_allowed() -> Response {
    line(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed")
}
