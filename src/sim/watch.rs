//! Watches: events from the history on, bookmarks, streaming lists, and the faults of open streams.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};

use super::api::Settings;
use super::faults::{Call, Faults, Matcher, Open, StreamFault};
use super::form::Form;
use super::query::Options;
use super::selector::Selector;
use super::status::ApiError;
use super::store::{Change, Compacted, Object, Query, Store};

/// Events in one chunk of a body.
const CHUNK: usize = 64;

/// Answers a watch: a body that goes on until its time is over.
pub(super) fn watch(
    store: Arc<Store>,
    faults: &Faults,
    call: Call,
    options: &Options,
    form: Form,
    settings: &Settings,
) -> Result<Body, ApiError> {
    options.validate_watch()?;
    let selector = Selector::parse(call.resource, options.field_selector())?;
    let asked = options.revision()?.unwrap_or(0);
    let streaming_list = options.send_initial_events();
    // Without a resource version a watch begins with what exists, too.
    let begins = streaming_list == Some(true) || streaming_list.is_none() && asked == 0;
    let (commands, open) = faults.stream();
    let now = Instant::now();
    let timeout = options.timeout()?.unwrap_or(settings.watch_timeout);
    let mut watch = Watch {
        changed: store.subscribe(),
        cursor: if begins || asked == 0 { store.revision() } else { asked },
        store,
        call,
        selector,
        form,
        ready: VecDeque::new(),
        initial: VecDeque::new(),
        initial_end: None,
        bookmarks: options.bookmarks().then(|| (now + settings.bookmarks, settings.bookmarks)),
        last_bookmark: (options.bookmarks() && timeout > BEFORE_END).then(|| now + (timeout - BEFORE_END)),
        end: now + timeout,
        commands,
        over: false,
        silent: false,
        _open: open,
    };
    if begins {
        watch.begin(streaming_list == Some(true) && options.bookmarks());
    } else {
        watch.check_history(settings.gone_as_http_status)?;
    }
    Ok(Body::from_stream(stream::unfold(watch, |mut watch| async move {
        watch.next().await.map(|item| (item, watch))
    })))
}

/// The API server sends a last bookmark so long before it ends a watch.
const BEFORE_END: Duration = Duration::from_secs(2);

struct Watch {
    store: Arc<Store>,
    changed: watch::Receiver<u64>,
    call: Call,
    selector: Selector,
    form: Form,
    /// Everything up to this revision was sent.
    cursor: u64,
    /// Chunks to send before anything else.
    ready: VecDeque<Result<Bytes, io::Error>>,
    /// What existed at the begin and is still to be sent.
    initial: VecDeque<Arc<Object>>,
    /// Revision of the bookmark that ends a streaming list, until it is sent.
    initial_end: Option<u64>,
    /// When the next bookmark is due, and how far apart they are.
    bookmarks: Option<(Instant, Duration)>,
    last_bookmark: Option<Instant>,
    end: Instant,
    commands: broadcast::Receiver<(Matcher, StreamFault)>,
    /// Nothing comes after what is ready.
    over: bool,
    /// Nothing comes any more, and nothing is closed.
    silent: bool,
    _open: Open,
}

impl Watch {
    fn begin(&mut self, bookmark: bool) {
        let namespace = self.call.namespace.clone();
        let query = Query {
            namespace: namespace.as_deref(),
            keep: &|object| self.selector.matches(object),
            ..Query::all(self.call.resource)
        };
        // The newest state is always there.
        self.initial = self.store.snapshot(&query, self.cursor).unwrap_or_default().into();
        self.initial_end = bookmark.then_some(self.cursor);
    }

    /// Refuses to begin from before the history, in one form or the other.
    fn check_history(&mut self, gone_as_http_status: bool) -> Result<(), ApiError> {
        let Err(Compacted { oldest }) = self.store.changes_after(self.cursor, 0) else { return Ok(()) };
        let error = ApiError::too_old(self.cursor, oldest);
        if gone_as_http_status {
            return Err(error);
        }
        self.finish_with(&error);
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<Bytes, io::Error>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some(chunk);
            }
            while let Ok((matcher, fault)) = self.commands.try_recv() {
                self.command(&matcher, fault);
            }
            if self.silent {
                return pending().await;
            }
            if self.ready.is_empty() && self.over {
                return None;
            }
            if self.ready.is_empty() && !self.send_initial() && !self.send_changes() {
                self.wait().await;
            }
        }
    }

    /// Sends more of what existed at the begin; false if there is no more.
    fn send_initial(&mut self) -> bool {
        let mut chunk = Vec::new();
        for object in self.initial.drain(..CHUNK.min(self.initial.len())) {
            event(self.form, "ADDED", &object, &mut chunk);
        }
        if self.initial.is_empty()
            && let Some(revision) = self.initial_end.take()
        {
            let bookmark = self.form.bookmark(self.call.resource, revision, true);
            chunk.extend_from_slice(line("BOOKMARK", &bookmark).as_bytes());
        }
        self.send(chunk)
    }

    /// Sends changes since the cursor; false if there are none.
    fn send_changes(&mut self) -> bool {
        let changes = match self.store.changes_after(self.cursor, CHUNK) {
            Ok(changes) => changes,
            Err(Compacted { oldest }) => {
                let error = ApiError::too_old(self.cursor, oldest);
                self.finish_with(&error);
                return true;
            }
        };
        let mut chunk = Vec::new();
        for change in &changes {
            self.cursor = change.revision;
            if let Some(kind) = self.kind(change) {
                event(self.form, kind, &change.after, &mut chunk);
            }
        }
        self.send(chunk) || !changes.is_empty()
    }

    fn send(&mut self, chunk: Vec<u8>) -> bool {
        if chunk.is_empty() {
            return false;
        }
        self.ready.push_back(Ok(chunk.into()));
        true
    }

    /// What a change is to this watch: a selector makes an object come and go.
    fn kind(&self, change: &Change) -> Option<&'static str> {
        let selected = |object: &Arc<Object>| {
            object.resource == self.call.resource
                && self.call.namespace.as_ref().is_none_or(|n| *object.namespace == **n)
                && self.selector.matches(object)
        };
        let before = change.before.as_ref().is_some_and(selected);
        match (before, selected(&change.after)) {
            (true, _) if change.deleted => Some("DELETED"),
            (false, _) if change.deleted => None,
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
            (false, true) => Some("ADDED"),
            (false, false) => None,
        }
    }

    async fn wait(&mut self) {
        let bookmark = self.bookmarks.map(|(at, _)| at).into_iter().chain(self.last_bookmark).min();
        tokio::select! {
            biased;
            command = self.commands.recv() => match command {
                Ok((matcher, fault)) => self.command(&matcher, fault),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => self.over = true,
            },
            _ = self.changed.changed() => {}
            () = sleep_until(self.end) => self.over = true,
            () = at(bookmark) => self.bookmark(),
        }
    }

    fn bookmark(&mut self) {
        let now = Instant::now();
        self.last_bookmark = self.last_bookmark.filter(|at| *at > now);
        if let Some((at, apart)) = &mut self.bookmarks {
            *at = now + *apart;
        }
        let bookmark = self.form.bookmark(self.call.resource, self.cursor, false);
        self.send(line("BOOKMARK", &bookmark).into());
    }

    fn finish_with(&mut self, error: &ApiError) {
        self.send(line("ERROR", &error.status().to_string()).into());
        self.over = true;
    }

    /// A fault strikes at once: what happened before it and is not sent yet is not sent any more.
    fn command(&mut self, matcher: &Matcher, fault: StreamFault) {
        if !matcher.takes(&self.call) || self.over || self.silent {
            return;
        }
        match fault {
            StreamFault::End => self.over = true,
            StreamFault::Cut => self.cut(),
            StreamFault::CutInEvent => {
                self.send(br#"{"type":"MODIFIED","object":{"kind":"Pod","apiVers"#.to_vec());
                self.cut();
            }
            StreamFault::Silence => self.silent = true,
            StreamFault::Error(error) => self.finish_with(&error),
            StreamFault::Send(text) => {
                self.send(text.into());
            }
        }
    }

    fn cut(&mut self) {
        self.ready.push_back(Err(io::Error::other("the connection is cut")));
        self.over = true;
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

/// One line of a watch.
pub(super) fn line(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn event(form: Form, kind: &str, object: &Object, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(br#"","object":"#);
    form.object(object, out);
    out.extend_from_slice(b"}\n");
}
