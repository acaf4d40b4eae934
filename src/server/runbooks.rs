//! /runbooks/: the runbooks as pages, with the names of the link in their commands.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::layout::Layout;
use super::words::Words;
use super::{App, negotiate};
use crate::board::{self, Row};
use crate::publish::Published;
use crate::runbook;
use crate::runbook::fill::{Names, Placeholder};
use crate::runbook::html::{push_command, push_escaped, render};
use crate::runbook::library::{Language, PAGES, Page};
use crate::termination::Termination;
use crate::text::clean;

/// Finds the pods of any kind of workload: their names begin with the workload's.
const FIND: &str = "kubectl get pods -n NAMESPACE -o wide | grep '^WORKLOAD'";
/// How many ends of the container a page shows.
const ENDS: usize = 5;

type Parameters = Query<Vec<(String, String)>>;
type Name = Result<Path<String>, PathRejection>;

/// The name in a path; what is no text is the name of no runbook.
fn readable(name: Name) -> String {
    name.map(|Path(name)| name).unwrap_or_default()
}

pub(super) async fn without_slash() -> Redirect {
    Redirect::permanent("runbooks/")
}

/// The list of runbooks.
pub(super) async fn index(Query(parameters): Parameters, headers: HeaderMap) -> Response {
    let language = language(&parameters, &headers);
    let words = Words::of(language);
    let mut main = format!("<h1>{}</h1>\n<p>{}</p>\n<ul class=\"books\">\n", words.runbooks, words.about);
    let given = Names::read(&parameters).parameters();
    for page in PAGES {
        main.push_str("<li><a href=\"");
        push_escaped(&mut main, &format!("{}{}", page.name, with_language(&given, language)));
        main.push_str("\">");
        push_escaped(&mut main, page.title(language));
        main.push_str("</a></li>\n");
    }
    main.push_str("</ul>\n");
    let links = switch(language, "./", &given);
    let layout = Layout {
        title: words.runbooks,
        language,
        root: "../",
        head: "",
        links: &links,
        wide: false,
        main: &main,
    };
    layout.answer(StatusCode::OK)
}

/// One runbook: as a page, or with the ending .md as it is written.
pub(super) async fn page(
    State(app): State<App>,
    name: Name,
    Query(parameters): Parameters,
    headers: HeaderMap,
) -> Response {
    let name = readable(name);
    if let Some(page) = name.strip_suffix(".md").and_then(Page::find) {
        return raw(page, Language::English);
    }
    let language = language(&parameters, &headers);
    match Page::find(&name) {
        Some(page) => runbook(&app.published, page, language, Names::read(&parameters)),
        None => unknown(language, "../", "./"),
    }
}

/// A Korean runbook as it is written.
pub(super) async fn korean(name: Name) -> Response {
    match readable(name).strip_suffix(".md").and_then(Page::find) {
        Some(page) => raw(page, Language::Korean),
        None => unknown(Language::Korean, "../../", "../"),
    }
}

fn raw(page: &Page, language: Language) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/markdown; charset=utf-8"),
        (header::CONTENT_LANGUAGE, language.tag()),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, page.text(language)).into_response()
}

fn unknown(language: Language, root: &str, index: &str) -> Response {
    let words = Words::of(language);
    let main = format!(
        "<h1>{}</h1>\n<p><a href=\"{index}\">{}</a></p>\n",
        words.no_such_runbook, words.all_runbooks
    );
    let layout = Layout {
        title: words.no_such_runbook,
        language,
        root,
        head: "",
        links: "",
        wide: false,
        main: &main,
    };
    layout.answer(StatusCode::NOT_FOUND)
}

/// The language that the link names, else the one that the reader prefers.
fn language(parameters: &[(String, String)], headers: &HeaderMap) -> Language {
    let named =
        parameters.iter().find(|(name, _)| name == "lang").and_then(|(_, tag)| Language::from_tag(tag));
    named.unwrap_or_else(|| {
        let accept = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        negotiate::language(accept.unwrap_or_default())
    })
}

/// A link to the same page in the other language.
fn switch(language: Language, page: &str, parameters: &str) -> String {
    let (other, label) = match language {
        Language::English => (Language::Korean, "한국어"),
        Language::Korean => (Language::English, "English"),
    };
    let tag = other.tag();
    let link = format!("{page}{}", with_language(parameters, other));
    let mut out = format!("<a lang=\"{tag}\" hreflang=\"{tag}\" href=\"");
    push_escaped(&mut out, &link);
    out + &format!("\">{label}</a>")
}

fn with_language(parameters: &str, language: Language) -> String {
    let separator = if parameters.is_empty() { '?' } else { '&' };
    format!("{parameters}{separator}lang={}", language.tag())
}

fn runbook(published: &Published, page: &'static Page, language: Language, mut names: Names) -> Response {
    let words = Words::of(language);
    let given = names.parameters();
    let ends = ends(published, &names);
    // The pod of an end that this page is about, else of any.
    if let Some(end) = ends.iter().find(|end| runbook::page(end) == page.name).or(ends.first()) {
        names.complete(Placeholder::Pod, &end.pod);
        names.complete(Placeholder::Node, &end.node);
    }
    let rendered = render(page, language, &names, &with_language(&given, language));
    let mut main = String::from("<h1>");
    push_escaped(&mut main, page.title(language));
    main.push_str("</h1>\n");
    push_case(&mut main, words, &names, ends.iter().find_map(|end| section(end, page)));
    push_ends(&mut main, words, published, &ends, page);
    push_contents(&mut main, words, &rendered.sections);
    main.push_str(&rendered.body);
    let title = format!("{} · exitcode-exporter", page.title(language));
    let layout = Layout {
        title: &title,
        language,
        root: "../",
        head: &head(page),
        links: &links(page, language, &given),
        wide: false,
        main: &main,
    };
    layout.answer(StatusCode::OK)
}

fn head(page: &Page) -> String {
    let name = page.name;
    let mut head = format!("<link rel=\"canonical\" href=\"{name}\">\n");
    for language in Language::ALL {
        let tag = language.tag();
        head.push_str(&format!("<link rel=\"alternate\" hreflang=\"{tag}\" href=\"{name}?lang={tag}\">\n"));
    }
    head
}

fn links(page: &Page, language: Language, given: &str) -> String {
    let words = Words::of(language);
    let folder = match language {
        Language::English => "",
        Language::Korean => "ko/",
    };
    let mut index = String::from("./");
    push_escaped(&mut index, &with_language(given, language));
    format!(
        "<a href=\"{index}\">{all}</a><a href=\"{folder}{name}.md\">{raw}</a>{switch}",
        all = words.all_runbooks,
        name = page.name,
        raw = words.raw,
        switch = switch(language, page.name, given),
    )
}

/// The last ends of what the link names, newest first; none if it names no workload.
fn ends(published: &Published, names: &Names) -> Vec<Arc<Termination>> {
    let (Some(namespace), Some(workload)) =
        (names.get(Placeholder::Namespace), names.get(Placeholder::Workload))
    else {
        return Vec::new();
    };
    let query = board::Query {
        namespace: Some(namespace.to_owned()),
        workload: Some(workload.to_owned()),
        ..board::Query::default()
    };
    let same = |placeholder, value: &str| names.get(placeholder).is_none_or(|name| name == value);
    let mut found = published.terminations(&query);
    found.retain(|end| {
        same(Placeholder::WorkloadType, &end.subject.workload.workload_type)
            && same(Placeholder::Container, &end.subject.container)
            && same(Placeholder::Pod, &end.pod)
    });
    found
}

/// The section of this page that is about this end, if there is one.
fn section(end: &Termination, page: &Page) -> Option<&'static str> {
    let cause = end.outcome.cause.as_str();
    (runbook::page(end) == page.name && page.has_anchor(cause)).then_some(cause)
}

/// What the commands are filled in with, and where to go on.
fn push_case(out: &mut String, words: &Words, names: &Names, section: Option<&str>) {
    out.push_str("<section class=\"case\">\n");
    for placeholder in names.refused() {
        let parameter = placeholder.parameter();
        out.push_str(&format!("<p class=\"warn\"><code>{parameter}</code>: {}</p>\n", words.refused));
    }
    if Placeholder::ALL.iter().any(|&placeholder| names.get(placeholder).is_some()) {
        out.push_str("<dl>\n");
        for placeholder in Placeholder::ALL {
            let Some(name) = names.get(placeholder) else { continue };
            out.push_str(&format!("<div><dt>{}</dt><dd>", words.placeholder(placeholder)));
            push_escaped(out, name);
            out.push_str("</dd></div>\n");
        }
        out.push_str("</dl>\n");
        if names.get(Placeholder::Pod).is_none() && names.get(Placeholder::Workload).is_some() {
            out.push_str(&format!("<p>{}</p>\n", words.find_pod));
            push_command(out, names, FIND);
        }
    } else {
        out.push_str(&format!("<p>{}</p>\n", words.nothing_filled_in));
    }
    if let Some(section) = section {
        out.push_str(&format!(
            "<p class=\"go\">{} <a href=\"#{section}\"><code>{section}</code> →</a></p>\n",
            words.last_cause
        ));
    }
    out.push_str("</section>\n");
}

/// The last ends, each cause with a link to what this page says about it.
fn push_ends(out: &mut String, words: &Words, published: &Published, ends: &[Arc<Termination>], page: &Page) {
    if ends.is_empty() {
        return;
    }
    out.push_str(&format!("<h3>{}</h3>\n<table class=\"ends\"><thead><tr>", words.last_ends));
    for heading in [words.ended, words.exit_code, words.cause, words.ran_for, words.pod] {
        out.push_str(&format!("<th>{heading}</th>"));
    }
    out.push_str("</tr></thead><tbody>\n");
    for end in ends.iter().take(ENDS) {
        let row = Row::new(end, &published.options.runbooks, false);
        let cause = match section(end, page) {
            Some(section) => format!("<a href=\"#{section}\">{section}</a>"),
            None => row.cause.to_owned(),
        };
        out.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td>{cause}</td><td>{}</td><td>",
            ended(end),
            end.outcome.exit_code,
            ran_for(row.ran_for),
        ));
        push_escaped(out, &clean(row.pod));
        out.push_str("</td></tr>\n");
    }
    out.push_str("</tbody></table>\n");
}

/// When it ended, to the second; when it was counted where no record says more.
pub(super) fn ended(end: &Termination) -> String {
    let at = end.finished_at.unwrap_or(end.counted_at);
    crate::time::Timestamp(at.0.div_euclid(1000) * 1000).to_string()
}

/// Seconds, as people write them.
pub(super) fn ran_for(seconds: Option<f64>) -> String {
    seconds.map(|seconds| format!("{seconds:.0} s")).unwrap_or_default()
}

fn push_contents(out: &mut String, words: &Words, sections: &[(String, String)]) {
    out.push_str(&format!("<nav class=\"contents\" aria-label=\"{}\"><ul>\n", words.contents));
    for (anchor, heading) in sections {
        out.push_str(&format!("<li><a href=\"#{anchor}\">{heading}</a></li>\n"));
    }
    out.push_str("</ul></nav>\n");
}
