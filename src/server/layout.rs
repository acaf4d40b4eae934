//! The frame of every page: head, style and what a browser may load.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::runbook::html::push_escaped;
use crate::runbook::library::Language;

/// A page may load its style and its icon, and nothing else; there is no script to run.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' \
                    height='16' rx='4' fill='%230b5fbf'/%3E%3Cpath d='M5 5l6 6M11 5l-6 6' stroke='white' stroke-width='2'/%3E%3C/svg%3E";

/// A page.
pub(super) struct Layout<'a> {
    /// Plain text.
    pub title: &'a str,
    /// The language of its text.
    pub language: Language,
    /// Relative path to `/`, so that pages work behind a proxy that adds a path of its own.
    pub root: &'a str,
    /// Elements of the head, as HTML.
    pub head: &'a str,
    /// Links at the top, as HTML.
    pub links: &'a str,
    /// Whether it holds wide tables.
    pub wide: bool,
    /// The content, as HTML.
    pub main: &'a str,
}

impl Layout<'_> {
    /// The answer with this page.
    pub(super) fn answer(&self, status: StatusCode) -> Response {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (header::CONTENT_LANGUAGE, HeaderValue::from_static(self.language.tag())),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::VARY, HeaderValue::from_static("Accept-Language")),
        ];
        (status, headers, Body::from(self.html())).into_response()
    }

    fn html(&self) -> String {
        let mut title = String::new();
        push_escaped(&mut title, self.title);
        let Self { root, head, links, main, .. } = self;
        let (language, class) = (self.language.tag(), if self.wide { " class=\"wide\"" } else { "" });
        format!(
            "<!DOCTYPE html>\n<html lang=\"{language}\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <link rel=\"icon\" href=\"{ICON}\">\n<link rel=\"stylesheet\" href=\"{root}style.css\">\n{head}</head>\n\
             <body{class}>\n<header><a class=\"brand\" href=\"{root}\">exitcode-exporter</a>{links}</header>\n\
             <main>\n{main}</main>\n<footer>exitcode-exporter {version}</footer>\n</body>\n</html>\n",
            version = env!("CARGO_PKG_VERSION"),
        )
    }
}

/// The style of all pages.
pub(super) async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, include_str!("style.css")).into_response()
}
