//! The objects of the simulated cluster: one revision for all changes, as etcd has, and a bounded history of
//! them, from which watches are served and older states are read.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

use super::kinds::Resource;

/// How many changes are kept unless it is said otherwise.
pub const DEFAULT_HISTORY: usize = 2_000;

/// What an object holds besides its revision: text that was rendered once, or a compact value that is
/// rendered anew each time it is sent.
pub trait Content: Send + Sync {
    /// Appends the object as JSON without `kind` and `apiVersion` (as in lists), beginning with `{"metadata":`.
    fn render(&self, revision: u64, out: &mut Vec<u8>);
    /// The value of a field that field selectors may name; empty if it is not set.
    fn field(&self, path: &str) -> String;
}

/// One version of an object.
pub struct Object {
    /// Its resource.
    pub resource: Resource,
    /// Its namespace; empty if it has none.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// The revision that wrote it: `metadata.resourceVersion`.
    pub revision: u64,
    /// The rest.
    pub content: Arc<dyn Content>,
}

impl Object {
    fn key(&self) -> Key {
        (self.resource, self.namespace.clone(), self.name.clone())
    }
}

/// Objects are ordered by this, and so are lists.
pub type Key = (Resource, Box<str>, Box<str>);

/// One change: what an object was and is.
#[derive(Clone)]
pub struct Change {
    /// Revision of the change.
    pub revision: u64,
    /// Before; absent if it was created.
    pub before: Option<Arc<Object>>,
    /// After; of a deleted object its last state under the deletion's revision.
    pub after: Arc<Object>,
    /// Whether the change deleted it.
    pub deleted: bool,
}

/// The history does not reach back so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the oldest revision that is kept is {oldest}")]
pub struct Compacted {
    /// The oldest revision from which changes are known.
    pub oldest: u64,
}

struct Inner {
    revision: u64,
    objects: BTreeMap<Key, Arc<Object>>,
    /// One change a revision without gaps, the newest last; bounded by `capacity`.
    history: VecDeque<Change>,
    capacity: usize,
}

/// The store; cheap to share in an `Arc`.
pub struct Store {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(DEFAULT_HISTORY)
    }
}

impl Store {
    /// An empty store that keeps so many changes.
    #[must_use]
    pub fn new(history: usize) -> Self {
        let inner =
            Inner { revision: 1, objects: BTreeMap::new(), history: VecDeque::new(), capacity: history };
        Self { inner: Mutex::new(inner), changed: watch::Sender::new(1) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// Tells of every new revision.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Creates or updates an object given as JSON; it must have `metadata.name`. `kind` and `apiVersion` may
    /// be missing. Everything else may be anything, so that objects that can't be read are put the same way.
    /// Returns the revision.
    pub fn put(&self, resource: Resource, object: Value) -> u64 {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace").into(), text("/metadata/name").into());
        self.put_content(resource, namespace, name, Arc::new(Text::new(resource, object)))
    }

    /// Creates or updates an object with content of the caller's own. Returns the revision.
    pub fn put_content(
        &self,
        resource: Resource,
        namespace: Box<str>,
        name: Box<str>,
        content: Arc<dyn Content>,
    ) -> u64 {
        let mut inner = self.lock();
        let revision = inner.revision.saturating_add(1);
        let after = Arc::new(Object { resource, namespace, name, revision, content });
        let before = inner.objects.insert(after.key(), Arc::clone(&after));
        inner.push(Change { revision, before, after, deleted: false });
        self.tell(inner)
    }

    /// Deletes an object. Returns the revision; `None` if there was none.
    pub fn delete(&self, resource: Resource, namespace: &str, name: &str) -> Option<u64> {
        let mut inner = self.lock();
        let before = inner.objects.remove(&(resource, namespace.into(), name.into()))?;
        let revision = inner.revision.saturating_add(1);
        let after = Arc::new(Object {
            resource,
            namespace: before.namespace.clone(),
            name: before.name.clone(),
            revision,
            content: Arc::clone(&before.content),
        });
        inner.push(Change { revision, before: Some(before), after, deleted: true });
        Some(self.tell(inner))
    }

    fn tell(&self, inner: MutexGuard<'_, Inner>) -> u64 {
        let revision = inner.revision;
        drop(inner);
        self.changed.send_replace(revision);
        revision
    }

    /// One object.
    #[must_use]
    pub fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.lock().objects.get(&(resource, namespace.into(), name.into())).cloned()
    }

    /// Forgets the history: watches and continue tokens from before now are answered with 410.
    pub fn compact(&self) {
        self.lock().history.clear();
    }

    /// At most `max` changes after a revision, oldest first.
    ///
    /// # Errors
    /// [`Compacted`] if the history does not reach back so far.
    pub fn changes_after(&self, revision: u64, max: usize) -> Result<Vec<Change>, Compacted> {
        let inner = self.lock();
        let first = inner.index_after(revision)?;
        Ok(inner.history.range(first..).take(max).cloned().collect())
    }

    /// The objects of a query as they were at a revision, in the order of their keys.
    ///
    /// # Errors
    /// [`Compacted`] if the history does not reach back so far.
    pub fn snapshot(&self, query: &Query<'_>, revision: u64) -> Result<Vec<Arc<Object>>, Compacted> {
        let inner = self.lock();
        let range = (query.lower(), Bound::Unbounded);
        let now = inner.objects.range(range.clone()).take_while(|(key, _)| query.covers(key));
        let now = now.map(|(_, object)| object).filter(|object| (query.keep)(object));
        if revision >= inner.revision {
            return Ok(now.take(query.max).cloned().collect());
        }
        let undone = inner.undone_to(revision)?;
        let kept = now.filter(|object| object.revision <= revision).take(query.max);
        let mut then: BTreeMap<Key, Arc<Object>> = kept.map(|o| (o.key(), Arc::clone(o))).collect();
        let undone = undone.range(range).take_while(|(key, _)| query.covers(key));
        let undone = undone.filter_map(|(key, before)| Some((key.clone(), before.clone()?)));
        then.extend(undone.filter(|(_, object)| (query.keep)(object)).take(query.max));
        Ok(then.into_values().take(query.max).collect())
    }
}

/// Which objects a snapshot is to show.
pub struct Query<'a> {
    /// Of this resource,
    pub resource: Resource,
    /// in this namespace, or in all,
    pub namespace: Option<&'a str>,
    /// after this namespace and name,
    pub start: Option<(&'a str, &'a str)>,
    /// of those that this says yes to,
    pub keep: &'a dyn Fn(&Object) -> bool,
    /// so many at most.
    pub max: usize,
}

impl Query<'_> {
    /// All objects of a resource.
    #[must_use]
    pub fn all(resource: Resource) -> Self {
        Self { resource, namespace: None, start: None, keep: &|_| true, max: usize::MAX }
    }

    fn lower(&self) -> Bound<Key> {
        match (self.start, self.namespace) {
            (Some((namespace, name)), _) => Bound::Excluded((self.resource, namespace.into(), name.into())),
            (None, namespace) => {
                Bound::Included((self.resource, namespace.unwrap_or_default().into(), "".into()))
            }
        }
    }

    fn covers(&self, key: &Key) -> bool {
        key.0 == self.resource && self.namespace.is_none_or(|namespace| *key.1 == *namespace)
    }
}

impl Inner {
    fn push(&mut self, change: Change) {
        self.revision = change.revision;
        self.history.push_back(change);
        while self.history.len() > self.capacity {
            self.history.pop_front();
        }
    }

    /// Index of the first change after a revision.
    fn index_after(&self, revision: u64) -> Result<usize, Compacted> {
        let kept = u64::try_from(self.history.len()).unwrap_or(u64::MAX);
        let oldest = self.revision.saturating_sub(kept);
        let index = revision.checked_sub(oldest).ok_or(Compacted { oldest })?;
        Ok(usize::try_from(index.min(kept)).unwrap_or(usize::MAX))
    }

    /// For every key that changed after a revision, the object as it was at that revision.
    fn undone_to(&self, revision: u64) -> Result<BTreeMap<Key, Option<Arc<Object>>>, Compacted> {
        let first = self.index_after(revision)?;
        // From the newest to the oldest: the oldest change's `before` is what stays.
        Ok(self.history.range(first..).rev().map(|c| (c.after.key(), c.before.clone())).collect())
    }
}

/// Stands where the revision goes while an object is rendered once.
const REVISION: &str = "<revision>";

/// An object rendered once: what stands before its revision, and what after.
struct Text {
    before: Box<str>,
    after: Box<str>,
    fields: Vec<(&'static str, Box<str>)>,
}

impl Text {
    fn new(resource: Resource, mut object: Value) -> Self {
        let fields = resource.fields().iter().map(|path| (*path, read_field(&object, path).into()));
        let fields = fields.filter(|(_, value): &(_, Box<str>)| !value.is_empty()).collect();
        if let Some(map) = object.as_object_mut() {
            map.remove("kind");
            map.remove("apiVersion");
        }
        if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".to_owned(), REVISION.into());
        }
        let text = object.to_string();
        let (before, after) = text.split_once(REVISION).unwrap_or((&text, ""));
        Self { before: before.into(), after: after.into(), fields }
    }
}

impl Content for Text {
    fn render(&self, revision: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.before.as_bytes());
        if !self.after.is_empty() {
            out.extend_from_slice(revision.to_string().as_bytes());
            out.extend_from_slice(self.after.as_bytes());
        }
    }

    fn field(&self, path: &str) -> String {
        self.fields.iter().find(|(p, _)| *p == path).map(|(_, value)| value.to_string()).unwrap_or_default()
    }
}

/// Events name their reporter in `source.component`, newer ones in `reportingComponent`: the API server's
/// `source` field is the first that is set.
fn read_field(object: &Value, path: &str) -> String {
    let text = |path: &str| match object.pointer(&format!("/{}", path.replace('.', "/"))) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(value)) => value.to_string(),
        _ => String::new(),
    };
    match path {
        "source" if text("source.component").is_empty() => text("reportingComponent"),
        "source" => text("source.component"),
        path => text(path),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::{Compacted, Object, Query, Store};
    use crate::sim::kinds::Resource;

    fn put(store: &Store, name: &str, note: &str) -> u64 {
        store.put(
            Resource::Pods,
            json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": name}, "note": note}),
        )
    }

    fn text(objects: &[Arc<Object>]) -> String {
        let mut out = Vec::new();
        for object in objects {
            object.content.render(object.revision, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_snapshot_shows_the_objects_as_they_were_at_its_revision() {
        let store = Store::new(10);
        put(&store, "a", "one");
        let then = put(&store, "b", "one");
        put(&store, "a", "two");
        put(&store, "c", "one");
        store.delete(Resource::Pods, "shop", "b");
        let at = |revision| text(&store.snapshot(&Query::all(Resource::Pods), revision).unwrap());
        assert_eq!(
            at(then),
            concat!(
                r#"{"metadata":{"name":"a","namespace":"shop","resourceVersion":"2"},"note":"one"}"#,
                r#"{"metadata":{"name":"b","namespace":"shop","resourceVersion":"3"},"note":"one"}"#
            )
        );
        assert_eq!(
            at(store.revision()),
            concat!(
                r#"{"metadata":{"name":"a","namespace":"shop","resourceVersion":"4"},"note":"two"}"#,
                r#"{"metadata":{"name":"c","namespace":"shop","resourceVersion":"5"},"note":"one"}"#
            )
        );
    }

    #[test]
    fn the_history_is_bounded_and_says_how_far_it_reaches() {
        let store = Store::new(3);
        for note in ["1", "2", "3", "4", "5"] {
            put(&store, "a", note);
        }
        let revisions =
            |after| store.changes_after(after, 10).map(|c| c.iter().map(|c| c.revision).collect::<Vec<_>>());
        assert_eq!(revisions(3), Ok(vec![4, 5, 6]));
        assert_eq!(revisions(6), Ok(vec![]));
        assert_eq!(revisions(2), Err(Compacted { oldest: 3 }));
        assert!(store.snapshot(&Query::all(Resource::Pods), 2).is_err());
        store.compact();
        assert_eq!(revisions(5), Err(Compacted { oldest: 6 }));
        assert_eq!(revisions(6), Ok(vec![]));
    }
}
