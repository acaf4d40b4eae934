//! What is listed and watched, and the URLs to ask for it.

use std::fmt;

/// A resource of the core API, in one namespace or all, by a field selector or all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its plural name, as in URLs and RBAC: pods, events.
    pub resource: &'static str,
    /// The namespace; none for the whole cluster.
    pub namespace: Option<String>,
    /// As in `involvedObject.kind=Pod,reason=Killing`; filtered at the server.
    pub field_selector: Option<String>,
}

impl Target {
    /// All objects of a resource in the cluster.
    #[must_use]
    pub const fn all(resource: &'static str) -> Self {
        Self { resource, namespace: None, field_selector: None }
    }

    /// The same in one namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// The same, only what this field selector lets through.
    #[must_use]
    pub fn selecting(mut self, field_selector: impl Into<String>) -> Self {
        self.field_selector = Some(field_selector.into());
        self
    }

    /// Where the RBAC rule must hold.
    #[must_use]
    pub fn scope(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("in namespace {namespace}"),
            None => "at cluster scope".to_owned(),
        }
    }

    /// A page of a list. No resourceVersion: what is newest, never what an old watch cache holds.
    pub(super) fn page(&self, limit: u32, next: Option<&str>) -> String {
        let limit = limit.to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(next.map(|next| ("continue", next)));
        self.url(&query)
    }

    /// A watch that begins with what there is: newest, as no resourceVersion is named.
    pub(super) fn streaming_list(&self, seconds: u32) -> String {
        let seconds = seconds.to_string();
        self.url(&[
            ("watch", "1"),
            ("sendInitialEvents", "true"),
            ("resourceVersionMatch", "NotOlderThan"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", &seconds),
        ])
    }

    /// A watch of what changed after this version.
    pub(super) fn watch(&self, version: &str, seconds: u32) -> String {
        let seconds = seconds.to_string();
        self.url(&[
            ("watch", "1"),
            ("resourceVersion", version),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", &seconds),
        ])
    }

    fn url(&self, query: &[(&str, &str)]) -> String {
        let mut url = match &self.namespace {
            Some(namespace) => format!("/api/v1/namespaces/{}/{}", escape(namespace), self.resource),
            None => format!("/api/v1/{}", self.resource),
        };
        let selector = self.field_selector.as_deref().map(|selector| ("fieldSelector", selector));
        for (i, (key, value)) in selector.iter().chain(query).enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url.push_str(key);
            url.push('=');
            url.push_str(&escape(value));
        }
        url
    }
}

/// As in "pods at cluster scope".
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource, self.scope())
    }
}

/// Percent-encodes everything that is not unreserved (RFC 3986), for one path segment or one query value.
pub(crate) fn escape(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.push(char::from(HEX[usize::from(byte >> 4)]));
            escaped.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_what_is_newest_and_never_for_what_a_cache_holds() {
        let pods = Target::all("pods");
        assert_eq!(pods.page(250, None), "/api/v1/pods?limit=250");
        assert_eq!(pods.page(250, Some("a/b=")), "/api/v1/pods?limit=250&continue=a%2Fb%3D");
        assert_eq!(
            pods.streaming_list(300),
            "/api/v1/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
             &allowWatchBookmarks=true&timeoutSeconds=300"
        );
        assert_eq!(
            pods.watch("12", 300),
            "/api/v1/pods?watch=1&resourceVersion=12&allowWatchBookmarks=true&timeoutSeconds=300"
        );
    }

    #[test]
    fn namespaces_and_selectors_can_hold_anything() {
        let events = Target::all("events").in_namespace("a/../b?").selecting("reason=Killing,type!=x");
        assert_eq!(
            events.page(1, None),
            "/api/v1/namespaces/a%2F..%2Fb%3F/events?fieldSelector=reason%3DKilling%2Ctype%21%3Dx&limit=1"
        );
        assert_eq!(events.to_string(), "events in namespace a/../b?");
        assert_eq!(Target::all("pods").to_string(), "pods at cluster scope");
    }
}
