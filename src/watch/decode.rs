//! Reads lists and watch lines, each object apart, so that one that can't be read costs that one only.
//!
//! What serde says of an error may quote the input, and the input may be an environment variable's value. So only
//! line, column and kind of an error leave this file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::EventKind;
use super::failure::Status;
use crate::pod::Object;

/// Marks the bookmark that ends the initial events of a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Where and how JSON was not what it should be, without any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    kind: &'static str,
    line: usize,
    column: usize,
}

impl Place {
    fn of(error: &serde_json::Error) -> Self {
        let kind = match error.classify() {
            serde_json::error::Category::Io => "read error",
            serde_json::error::Category::Syntax => "malformed JSON",
            serde_json::error::Category::Data => "a field of the wrong type",
            serde_json::error::Category::Eof => "JSON that ends too soon",
        };
        Self { kind, line: error.line(), column: error.column() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {} column {}", self.kind, self.line, self.column)
    }
}

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page<'a> {
    /// The list's resource version.
    pub(super) version: String,
    /// How to ask for the next page, if there is one.
    pub(super) next: Option<String>,
    /// The objects, not yet read.
    pub(super) items: Vec<&'a RawValue>,
}

/// Reads the frame of a page.
pub(super) fn page(body: &[u8]) -> Result<Page<'_>, Place> {
    #[derive(Deserialize)]
    struct Raw<'a> {
        metadata: Meta,
        #[serde(borrow)]
        items: Option<Vec<&'a RawValue>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        resource_version: String,
        #[serde(rename = "continue")]
        next: Option<String>,
    }
    let raw: Raw<'_> = serde_json::from_slice(body).map_err(|error| Place::of(&error))?;
    let Meta { resource_version, next } = raw.metadata;
    Ok(Page {
        version: resource_version,
        next: next.filter(|next| !next.is_empty()),
        items: raw.items.unwrap_or_default(),
    })
}

/// What can be told of an object that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Its uid.
    pub(super) uid: Option<String>,
    /// Its resource version.
    pub(super) version: Option<String>,
    /// What is wrong with it.
    pub(super) place: Place,
}

/// Reads an object. One without a uid is no object of a cluster.
pub(super) fn object<T: Object>(raw: &RawValue) -> Result<T, Unreadable> {
    let place = match serde_json::from_str::<T>(raw.get()) {
        Ok(object) if !object.metadata().uid.is_empty() => return Ok(object),
        Ok(_) => Place { kind: "no uid", line: 1, column: 0 },
        Err(error) => Place::of(&error),
    };
    let metadata = metadata_of(raw).map(|raw| serde_json::from_str(raw.get()).unwrap_or_default());
    let metadata: BTreeMap<Cow<'_, str>, &RawValue> = metadata.unwrap_or_default();
    let text = |key: &str| serde_json::from_str::<String>(metadata.get(key)?.get()).ok();
    let uid = text("uid").filter(|uid| !uid.is_empty());
    Err(Unreadable { uid, version: text("resourceVersion"), place })
}

/// Reads an object that is gone: if need be, its metadata only.
pub(super) fn gone<T: Object>(raw: &RawValue) -> (Option<T>, Option<Unreadable>) {
    let unreadable = match object(raw) {
        Ok(object) => return (Some(object), None),
        Err(unreadable) => unreadable,
    };
    let bare = metadata_of(raw)
        .and_then(|metadata| serde_json::from_str::<T>(&format!("{{\"metadata\":{}}}", metadata.get())).ok())
        .filter(|object| !object.metadata().uid.is_empty());
    (bare, Some(unreadable))
}

fn metadata_of(raw: &RawValue) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    serde_json::from_str::<Outer<'_>>(raw.get()).ok().map(|outer| outer.metadata)
}

/// Reads a line that is what nearly all are, an object as the API server writes it, in one pass. Nothing for any other.
pub(super) fn whole_line<T: Object>(text: &[u8]) -> Option<(EventKind, T)> {
    #[derive(Deserialize)]
    #[serde(bound(deserialize = "T: Object"))]
    struct Whole<T> {
        object: T,
    }
    let kinds: [(&[u8], EventKind); 3] = [
        (br#"{"type":"MODIFIED","object":"#, EventKind::Modified),
        (br#"{"type":"ADDED","object":"#, EventKind::Added),
        (br#"{"type":"DELETED","object":"#, EventKind::Deleted),
    ];
    let (_, kind) = kinds.into_iter().find(|(start, _)| text.starts_with(start))?;
    let Whole { object } = serde_json::from_slice::<Whole<T>>(text).ok()?;
    (!object.metadata().uid.is_empty()).then_some((kind, object))
}

/// A line of a watch, its object not yet read.
#[derive(Debug, Deserialize)]
pub(super) struct Line<'a> {
    /// ADDED, MODIFIED, DELETED, BOOKMARK or ERROR.
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    /// The object.
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// Reads the frame of a watch line.
pub(super) fn line(text: &[u8]) -> Result<Line<'_>, Place> {
    serde_json::from_slice(text).map_err(|error| Place::of(&error))
}

/// What a bookmark says: the version to resume from, and whether it ends the initial events.
pub(super) fn bookmark(raw: &RawValue) -> (Option<String>, bool) {
    #[derive(Deserialize)]
    struct Bookmark {
        metadata: Meta,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        resource_version: Option<String>,
        annotations: Option<BTreeMap<String, Value>>,
    }
    let Ok(Bookmark { metadata }) = serde_json::from_str::<Bookmark>(raw.get()) else { return (None, false) };
    let ends = metadata.annotations.is_some_and(|all| all.get(INITIAL_EVENTS_END) == Some(&"true".into()));
    (metadata.resource_version.filter(|version| !version.is_empty()), ends)
}

/// What an ERROR says.
pub(super) fn status(raw: &RawValue) -> Status {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::Pod;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn an_unreadable_object_is_still_told_by_its_uid_and_version() {
        let pod = raw(r#"{"metadata":{"name":7,"uid":"u1","resourceVersion":"12"},"spec":{"env":"SECRET"}}"#);
        let unreadable = object::<Pod>(&pod).expect_err("name is a number");
        assert_eq!(unreadable.uid.as_deref(), Some("u1"));
        assert_eq!(unreadable.version.as_deref(), Some("12"));
        let words = unreadable.place.to_string();
        assert_eq!(words, "a field of the wrong type at line 1 column 21");
    }

    #[test]
    fn an_object_without_a_readable_uid_is_told_by_nothing() {
        for text in
            ["null", "7", "{}", r#"{"metadata":null}"#, r#"{"metadata":[]}"#, r#"{"metadata":{"uid":7}}"#]
        {
            let unreadable = object::<Pod>(&raw(text)).expect_err(text);
            assert_eq!((unreadable.uid, unreadable.version), (None, None), "{text}");
        }
    }

    #[test]
    fn an_object_that_is_gone_is_read_by_its_metadata_if_need_be() {
        let pod = raw(r#"{"metadata":{"name":"a","uid":"u1"},"status":{"containerStatuses":{}}}"#);
        let (bare, unreadable) = gone::<Pod>(&pod);
        assert_eq!(bare.map(|pod| pod.metadata.name).as_deref(), Some("a"));
        assert!(unreadable.is_some());
        let (nothing, unreadable) = gone::<Pod>(&raw(r#"{"metadata":{"name":[],"uid":"u1"}}"#));
        assert_eq!((nothing, unreadable.and_then(|u| u.uid).as_deref()), (None, Some("u1")));
    }

    #[test]
    fn only_a_line_that_the_api_server_would_write_is_read_in_one_pass() {
        let whole =
            |text: &str| whole_line::<Pod>(text.as_bytes()).map(|(kind, pod)| (kind, pod.metadata.uid));
        for kind in [EventKind::Added, EventKind::Modified, EventKind::Deleted] {
            let word = kind.as_str().to_uppercase();
            let text = format!(r#"{{"type":"{word}","object":{{"metadata":{{"uid":"u"}}}}}}"#);
            assert_eq!(whole(&text), Some((kind, "u".to_owned())));
            assert_eq!(whole(&text[..text.len() - 1]), None, "cut");
        }
        for text in [
            r#"{"type":"BOOKMARK","object":{"metadata":{"uid":"u"}}}"#,
            r#"{"type":"ERROR","object":{"metadata":{"uid":"u"}}}"#,
            r#"{"object":{"metadata":{"uid":"u"}},"type":"ADDED"}"#,
            r#"{"type":"ADDED","object":{"metadata":{"uid":""}}}"#,
            r#"{"type":"ADDED","object":{"metadata":{"uid":7}}}"#,
            r#"{"type":"ADDED","object":null}"#,
        ] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn a_page_needs_a_version_and_may_lack_items() {
        let list =
            page(br#"{"metadata":{"resourceVersion":"5","continue":""},"items":null}"#).expect("a page");
        assert_eq!((list.version.as_str(), list.next, list.items.len()), ("5", None, 0));
        let list = page(br#"{"items":[{},null],"metadata":{"resourceVersion":"5","continue":"x"}}"#)
            .expect("a page");
        assert_eq!((list.next.as_deref(), list.items.len()), (Some("x"), 2));
        for text in [
            "",
            "{}",
            "<html>",
            "[]",
            r#"{"metadata":{}}"#,
            r#"{"metadata":{"resourceVersion":"5"},"items":[}"#,
        ] {
            assert!(page(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn bookmarks_tell_the_version_and_the_end_of_the_initial_events() {
        let plain = raw(r#"{"metadata":{"resourceVersion":"9","creationTimestamp":null},"spec":{}}"#);
        assert_eq!(bookmark(&plain), (Some("9".to_owned()), false));
        let end = raw(
            r#"{"metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true","x":null}}}"#,
        );
        assert_eq!(bookmark(&end), (Some("9".to_owned()), true));
        assert_eq!(bookmark(&raw("null")), (None, false));
        assert_eq!(bookmark(&raw(r#"{"metadata":{"resourceVersion":""}}"#)), (None, false));
    }
}
