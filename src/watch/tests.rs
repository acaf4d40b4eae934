//! Every fault of an API server or of the way to it, against the scripted server, under the paused clock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::testing::{
    Answer, Asked, Log, added, bookmark, deleted, error, event, initial_events_end, modified, page, pod,
    script, server,
};
use super::{EventKind, FailureReason, Health, MAX_REQUESTS_IN_TEN_MINUTES, Stats, Target, Update, run};
use crate::log::tests::Capture;
use crate::pod::Pod;
use crate::time::Clock;

/// A running follower, its server's log and what it said.
struct Running {
    log: Log,
    health: Arc<Health>,
    updates: mpsc::Receiver<Update<Pod>>,
    clock: Clock,
}

fn follow((client, log): (kube::Client, Log)) -> Running {
    let clock = Clock::start();
    let health = Arc::new(Health::new(Target::all("pods"), Arc::<Stats>::default(), clock));
    let (sender, updates) = mpsc::channel(16);
    tokio::spawn(run(client, Arc::clone(&health), sender));
    Running { log, health, updates, clock }
}

impl Running {
    /// What is said within this time.
    async fn said_within(&mut self, seconds: u64) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut said = Vec::new();
        while let Ok(Some(update)) = tokio::time::timeout_at(end, self.updates.recv()).await {
            said.push(words(&update));
        }
        said
    }

    fn failures(&self) -> Vec<(&'static str, u64)> {
        let count = |reason: FailureReason| (reason.as_str(), self.health.stats().failures(reason));
        FailureReason::ALL.into_iter().map(count).filter(|(_, n)| *n > 0).collect()
    }

    fn lists(&self) -> (u64, u64) {
        (self.health.stats().lists_succeeded(), self.health.stats().lists_failed())
    }

    fn ready(&self) -> Result<(), String> {
        self.health.ready(self.clock.now())
    }
}

fn words(update: &Update<Pod>) -> String {
    let pod =
        |word: &str, pod: &Pod| format!("{word} {}@{}", pod.metadata.name, pod.metadata.resource_version);
    match update {
        Update::ListBegins => "begins".to_owned(),
        Update::Listed(object) => pod("listed", object),
        Update::StillThere(uid) => format!("still there {uid}"),
        Update::ListDone { whole } => if *whole { "done" } else { "done, not whole" }.to_owned(),
        Update::Added(object) => pod("added", object),
        Update::Modified(object) => pod("modified", object),
        Update::Deleted(object) => pod("deleted", object),
        Update::Bookmark => "bookmark".to_owned(),
    }
}

/// A streaming list of pod a at version 5 that goes on as `rest` says.
fn listed_then(rest: &str) -> Answer {
    Answer::ok(added("a", 3)).text(initial_events_end(5)).text(rest)
}

fn healthy() -> Answer {
    (0..1000).fold(Answer::empty(), |answer, i| answer.wait(60).text(bookmark(1000 + i))).silence()
}

/// A server that lists well and answers watches with `fault` the first `times`, then well.
fn faulty_watch(times: usize, fault: Answer) -> (kube::Client, Log) {
    let watches = Mutex::new(0);
    server(move |_, asked| {
        if asked.is_streaming_list() {
            return listed_then("").wait(70);
        }
        let mut watches = watches.lock().expect("no panic");
        *watches += 1;
        if *watches <= times {
            fault.clone()
        } else {
            (0..99).fold(Answer::ok(modified("a", 9)), |answer, i| answer.wait(60).text(bookmark(10 + i)))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_goes_on_as_a_watch_on_the_same_connection() {
    let more = [modified("a", 6), added("b", 7), deleted("a", 8), bookmark(9)].concat();
    let mut running = follow(script(vec![listed_then(&more).silence()]));
    let said = running.said_within(20).await;
    assert_eq!(
        said,
        ["begins", "listed a@3", "done", "modified a@6", "added b@7", "deleted a@8", "bookmark"]
    );
    assert_eq!(running.log.count(), 1);
    assert_eq!(running.lists(), (1, 0));
    assert_eq!(running.ready(), Ok(()));
    let stats = running.health.stats();
    assert_eq!(EventKind::ALL.map(|kind| stats.events(kind)), [2, 1, 1, 2, 0]);
    assert!(stats.last_event().is_some());
}

#[tokio::test(start_paused = true)]
async fn changes_during_a_streaming_list_belong_to_the_list() {
    let lines =
        [added("a", 3), added("b", 4), modified("a", 6), deleted("b", 7), initial_events_end(7)].concat();
    let mut running = follow(script(vec![Answer::ok(lines).silence()]));
    assert_eq!(
        running.said_within(20).await,
        ["begins", "listed a@3", "listed b@4", "listed a@6", "deleted b@7", "done"]
    );
}

#[tokio::test(start_paused = true)]
async fn stops_when_nobody_listens_any_more() {
    for answer in [Answer::never(), healthy(), Answer::refused(500, "")] {
        let (client, _) = script(vec![answer]);
        let health = Health::new(Target::all("pods"), Arc::default(), Clock::start());
        let (sender, updates) = mpsc::channel(16);
        let task = tokio::spawn(run::<Pod>(client, Arc::new(health), sender));
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(updates);
        assert!(tokio::time::timeout(Duration::from_secs(1), task).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_streaming_list_is_replaced_by_pages_for_good() {
    for code in [400, 404, 405, 422] {
        let (client, log) = server(move |_, asked| match asked {
            asked if asked.is_streaming_list() => Answer::refused(code, "sendInitialEvents is forbidden"),
            asked if asked.url.contains("continue=more") => Answer::ok(page(5, "", &[pod("b", 2)])),
            asked if asked.is_page() => Answer::ok(page(5, "more", &[pod("a", 1)])),
            _ => Answer::ok(modified("a", 6)).wait(70).text(error(410, "Expired")),
        });
        let mut running = follow((client, log));
        let said = running.said_within(50).await;
        assert_eq!(said, ["begins", "listed a@1", "listed b@2", "done", "modified a@6"], "{code}");
        assert_eq!(running.log.urls()[1], "/api/v1/pods?limit=250");
        assert_eq!(running.log.urls()[2], "/api/v1/pods?limit=250&continue=more");
        assert!(
            running.log.urls()[3]
                .starts_with("/api/v1/pods?watch=1&resourceVersion=5&allowWatchBookmarks=true")
        );
        assert_eq!(running.failures(), [], "a server that does not know it is no failure");
        running.said_within(500).await;
        let streaming = running.log.all().iter().filter(|asked| asked.is_streaming_list()).count();
        assert_eq!(streaming, 1, "{code}");
        assert!(running.lists().0 >= 3 && running.lists().1 == 0);
        for url in running.log.urls() {
            assert!(!url.contains("resourceVersion=0"), "{url}");
            assert!(
                !url.contains("limit=") || !url.contains("resourceVersion"),
                "a list of what is newest: {url}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_inside_a_streaming_list_is_answered_by_a_paged_one() {
    let (client, log) = server(|_, asked| match asked {
        asked if asked.is_streaming_list() => Answer::ok(added("a", 1)).text(error(500, "InternalError")),
        asked if asked.is_page() => Answer::ok(page(5, "", &[pod("a", 1)])),
        _ => healthy(),
    });
    let mut running = follow((client, log));
    assert_eq!(running.said_within(30).await, ["begins", "listed a@1", "begins", "listed a@1", "done"]);
    assert_eq!(running.failures(), [("server_error", 1)]);
    assert_eq!(running.lists(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_that_is_cut_begins_again_with_pages() {
    for broken in
        [Answer::ok(added("a", 1)).cut(), Answer::ok(added("a", 1)), Answer::ok(added("a", 1)).silence()]
    {
        let (client, log) = server(move |_, asked| match asked {
            asked if asked.is_streaming_list() => broken.clone(),
            asked if asked.is_page() => Answer::ok(page(5, "", &[pod("a", 1)])),
            _ => healthy(),
        });
        let mut running = follow((client, log));
        assert_eq!(
            running.said_within(100).await[..5],
            ["begins", "listed a@1", "begins", "listed a@1", "done"]
        );
        assert_eq!(running.lists(), (1, 1));
        let watch = running.log.all().into_iter().find(Asked::is_watch).expect("a watch");
        assert!(
            watch.url.contains("resourceVersion=5&"),
            "nothing of a broken list is resumed: {}",
            watch.url
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_connection_resumes_from_the_last_line_without_a_list() {
    let half = &added("c", 8)[..40];
    let cuts = [
        listed_then(&modified("a", 7)).cut(),
        listed_then(&modified("a", 7)).text(half).cut(),
        listed_then(&modified("a", 7)).text(half),
        listed_then(&modified("a", 7)),
        listed_then(&bookmark(7)).wait(200),
    ];
    for (i, cut) in cuts.into_iter().enumerate() {
        let mut running = follow(script(vec![cut, Answer::ok(added("c", 8)).silence()]));
        let said = running.said_within(80).await;
        let last = said.last().map(String::as_str);
        assert_eq!(last == Some("added c@8"), i != 4, "{said:?}");
        running.said_within(200).await;
        assert!(running.log.urls()[1].contains("resourceVersion=7&"), "{:?}", running.log.urls());
        assert_eq!(running.lists(), (1, 0));
        let cut = running.health.stats().failures(FailureReason::Connection);
        assert_eq!(cut, u64::from(i < 3), "case {i}: a clean end after an event is no failure");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_split_over_many_frames_is_one_event() {
    let text = modified("a", 6);
    let answer = text.chars().fold(listed_then(""), |answer, c| answer.text(c.to_string()));
    let mut running = follow(script(vec![answer.silence()]));
    assert_eq!(running.said_within(5).await, ["begins", "listed a@3", "done", "modified a@6"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_with_its_keys_in_another_order_is_the_same_event() {
    let turned =
        |kind: &str, version: u32| format!("{{\"object\":{},\"type\":\"{kind}\"}}\n", pod("a", version));
    let lines = [turned("MODIFIED", 6), turned("DELETED", 7)].concat();
    let mut running = follow(script(vec![
        Answer::ok(turned("ADDED", 3)).text(initial_events_end(5)).text(lines).cut(),
        Answer::ok(turned("ADDED", 8)).silence(),
    ]));
    assert_eq!(
        running.said_within(5).await,
        ["begins", "listed a@3", "done", "modified a@6", "deleted a@7", "added a@8"]
    );
    assert!(running.log.urls()[1].contains("resourceVersion=7&"));
}

#[tokio::test(start_paused = true)]
async fn an_expired_version_is_listed_again() {
    let expired = [
        Answer::refused(410, "too old resource version"),
        Answer::ok(error(410, "Expired")),
        Answer::ok(error(500, "InternalError")),
        Answer::ok(error(0, "")),
        Answer::refused(400, "invalid resource version"),
        Answer::refused(504, "Too large resource version: 7, current: 3"),
        Answer::ok("this is no JSON\n"),
    ];
    for (i, fault) in expired.into_iter().enumerate() {
        let (client, log) = server(move |number, asked| match number {
            0 => listed_then("").wait(1),
            1 => fault.clone(),
            _ if asked.is_watch() => Answer::never(),
            _ => Answer::ok(added("b", 8)).text(initial_events_end(9)).text(bookmark(10)).silence(),
        });
        let mut running = follow((client, log));
        assert_eq!(
            running.said_within(60).await,
            ["begins", "listed a@3", "done", "begins", "listed b@8", "done", "bookmark"],
            "case {i}"
        );
        assert_eq!(running.log.count(), 3);
        assert_eq!(running.lists(), (2, 0));
        assert_eq!(running.failures().len(), 1, "{:?}", running.failures());
        assert_eq!(running.ready(), Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_a_watch_is_counted_by_its_reason_and_resumed() {
    let cases = [
        ("unauthorized", Answer::refused(401, "Unauthorized")),
        ("forbidden", Answer::refused(403, "no")),
        ("throttled", Answer::refused(429, "slow down")),
        ("server_error", Answer::refused(500, "etcd")),
        ("server_error", Answer::refused(503, "starting")),
        ("connection", Answer::empty()),
        ("connection", Answer::empty().cut()),
        ("timeout", Answer::never()),
    ];
    for (reason, fault) in cases {
        let mut running = follow(faulty_watch(3, fault));
        let said = running.said_within(220).await;
        let seen = said.iter().filter(|word| *word != "bookmark").collect::<Vec<_>>();
        assert_eq!(seen, ["begins", "listed a@3", "done", "modified a@9"], "{reason}");
        assert_eq!(running.failures(), [(reason, 3)]);
        assert_eq!(running.lists(), (1, 0));
        assert_eq!(running.log.count(), 5, "{reason}: one list, three faults, one watch");
        assert!(running.log.urls()[1..].iter().all(|url| url.contains("resourceVersion=5&")));
        assert_eq!((running.ready(), running.health.failing_since()), (Ok(()), None));
    }
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_a_list_is_counted_by_its_reason_and_recovers() {
    let cases = [
        ("unauthorized", Answer::refused(401, "Unauthorized")),
        ("forbidden", Answer::refused(403, "no")),
        ("throttled", Answer::refused(429, "slow down")),
        ("server_error", Answer::refused(500, "etcd")),
        ("server_error", Answer::refused(503, "starting")),
        ("connection", Answer::ok(r#"{"metadata":{"resou"#).cut()),
        ("undecodable", Answer::ok("<html>log in first</html>")),
        ("timeout", Answer::ok("{").silence()),
        ("timeout", Answer::never()),
    ];
    for (reason, fault) in cases {
        let (client, log) = server(move |number, asked| match number {
            _ if asked.is_streaming_list() && number == 0 => Answer::refused(422, "no"),
            1..=3 => fault.clone(),
            _ if asked.is_page() => Answer::ok(page(5, "", &[pod("a", 1)])),
            _ => healthy(),
        });
        let mut running = follow((client, log));
        let said = running.said_within(320).await;
        assert_eq!(said[..3], ["begins", "listed a@1", "done"], "{reason}");
        assert_eq!(running.failures(), [(reason, 3)]);
        assert_eq!(running.lists(), (1, 3));
        assert_eq!(running.ready(), Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_continue_token_that_expires_begins_the_list_again() {
    let (client, log) = server(|number, asked| match number {
        0 => Answer::refused(422, "no"),
        1 => Answer::ok(page(5, "one", &[pod("a", 1)])),
        2 => Answer::refused(410, "The provided continue parameter is too old"),
        3 => Answer::ok(page(8, "two", &[pod("a", 1)])),
        4 => Answer::ok(page(8, "", &[pod("b", 7)])),
        _ if asked.is_watch() => healthy(),
        _ => Answer::never(),
    });
    let mut running = follow((client, log));
    assert_eq!(
        running.said_within(30).await,
        ["begins", "listed a@1", "begins", "listed a@1", "listed b@7", "done"]
    );
    assert_eq!(running.failures(), [("expired", 1)]);
    assert_eq!(running.lists(), (1, 1));
    assert!(running.log.urls()[5].contains("resourceVersion=8&"));
}

#[tokio::test(start_paused = true)]
async fn never_asks_more_than_the_stated_rate() {
    let watch_faults: Vec<(&str, Answer)> = vec![
        ("401", Answer::refused(401, "")),
        ("403", Answer::refused(403, "")),
        ("410", Answer::refused(410, "")),
        ("429 at once", Answer::refused(429, "").header("retry-after", "0")),
        ("500", Answer::refused(500, "")),
        ("503", Answer::refused(503, "")),
        ("ends at once", Answer::empty()),
        ("ends after an event", Answer::ok(bookmark(9))),
        ("ends after ten seconds", Answer::ok(bookmark(9)).wait(10)),
        ("ends after a minute", Answer::ok(bookmark(9)).wait(60)),
        ("cut after a minute", Answer::ok(bookmark(9)).wait(60).cut()),
        ("cut", Answer::empty().cut()),
        ("error 410", Answer::ok(error(410, "Expired"))),
        ("error 500", Answer::ok(error(500, "InternalError"))),
        ("error 500 after a minute", Answer::ok(bookmark(9)).wait(60).text(error(500, "InternalError"))),
        ("garbage", Answer::ok("garbage\n")),
        ("never", Answer::never()),
        ("silence", Answer::empty().silence()),
    ];
    for (name, fault) in watch_faults {
        let everywhere = fault.clone();
        let only_the_watch = server(move |number, asked| match asked {
            asked if asked.is_streaming_list() && number % 2 == 0 => listed_then(""),
            asked if asked.is_streaming_list() => Answer::refused(500, ""),
            asked if asked.is_page() => Answer::ok(page(5, "", &[])),
            _ => fault.clone(),
        });
        for (client, log) in [only_the_watch, server(move |_, _| everywhere.clone())] {
            let mut running = follow((client, log));
            running.said_within(3600).await;
            let most = running.log.most_in_ten_minutes();
            assert!(most <= MAX_REQUESTS_IN_TEN_MINUTES, "{name}: {most}");
            assert!(running.log.count() >= 30, "{name}: goes on trying, {} requests", running.log.count());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_the_server_asks() {
    let busy = Answer::refused(429, "").header("retry-after", "20");
    let mut running = follow(script(vec![busy.clone(), busy, listed_then("").silence()]));
    running.said_within(60).await;
    let at: Vec<_> = running.log.all().iter().map(|asked| asked.at).collect();
    for pair in at.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_secs(20));
    }
    let never = Answer::refused(503, "").header("retry-after", "86400");
    let mut running = follow(script(vec![never, listed_then("").silence()]));
    running.said_within(310).await;
    assert_eq!(running.log.count(), 2, "no server may silence us for a day");
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_is_named() {
    for (namespace, scope) in [(None, "at cluster scope"), (Some("shop"), "in namespace shop")] {
        let message = "pods is forbidden: User \\\"me\\\" cannot list";
        let (client, _) = script(vec![Answer::refused(403, message)]);
        let target = Target { namespace: namespace.map(str::to_owned), ..Target::all("pods") };
        let clock = Clock::start();
        let health = Arc::new(Health::new(target, Arc::default(), clock));
        let (sender, mut updates) = mpsc::channel(16);
        tokio::spawn(run::<Pod>(client, Arc::clone(&health), sender));
        assert!(tokio::time::timeout(Duration::from_secs(600), updates.recv()).await.is_err());
        let why = health.ready(clock.now()).expect_err("nothing is listed");
        let words = format!("forbidden: cannot list pods {scope}: grant verb list on resource pods (");
        assert!(why.contains(&words), "{why}");
        assert!(why.contains("403 Forbidden: pods is forbidden"), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_noticed_within_ninety_seconds_and_makes_unready() {
    let mut running = follow(server(|number, _| match number {
        0 => listed_then("").silence(),
        _ => Answer::empty().silence(),
    }));
    running.said_within(89).await;
    assert_eq!((running.failures(), running.log.count()), (vec![], 1));
    running.said_within(2).await;
    assert_eq!(running.failures(), [("timeout", 1)]);
    running.said_within(2).await;
    assert_eq!(running.log.count(), 2, "reconnected");
    assert_eq!(running.ready(), Ok(()));
    running.said_within(120).await;
    let why = running.ready().expect_err("an open connection alone is no sign of life");
    assert!(why.starts_with("the watch of pods at cluster scope has been failing for 12"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_version_of_another_history_is_given_up_after_two_silences() {
    let (client, log) = server(|number, asked| match number {
        0 => listed_then("").wait(70),
        _ if asked.is_streaming_list() => Answer::ok(initial_events_end(2)).text(bookmark(3)).silence(),
        _ => Answer::empty().silence(),
    });
    let mut running = follow((client, log));
    let said = running.said_within(320).await;
    assert_eq!(said[said.len() - 3..], ["begins", "done", "bookmark"], "{said:?}");
    assert_eq!(running.log.all().iter().filter(|asked| asked.is_watch()).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_that_stays_open_counts_as_recovered_after_five_seconds() {
    let mut running = follow(script(vec![
        listed_then("").cut(),
        Answer::refused(503, ""),
        Answer::empty().wait(80).text(bookmark(6)).silence(),
    ]));
    running.said_within(4).await;
    assert!(running.health.failing_since().is_some());
    running.said_within(10).await;
    assert!(running.health.failing_since().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_costs_that_object_only() {
    let bad = r#"{"metadata":{"name":["SECRET"],"uid":"uid-bad","resourceVersion":"4"}}"#.to_owned();
    let nameless = r#"{"metadata":{"name":["SECRET"]}}"#.to_owned();
    let logged = logged_by(async {
        for streaming in [true, false] {
            for (items, done) in [
                (vec![pod("a", 1), bad.clone(), pod("b", 2)], "done"),
                (vec![pod("a", 1), bad.clone(), nameless.clone(), pod("b", 2)], "done, not whole"),
            ] {
                let unread = items.len() as u64 - 2;
                let (client, log) = server(move |_, asked| match asked {
                    asked if asked.is_streaming_list() && streaming => items
                        .iter()
                        .fold(Answer::empty(), |answer, item| answer.text(event("ADDED", item)))
                        .text(initial_events_end(5))
                        .silence(),
                    asked if asked.is_streaming_list() => Answer::refused(422, ""),
                    asked if asked.is_page() => Answer::ok(page(5, "", &items)),
                    _ => Answer::empty().silence(),
                });
                let mut running = follow((client, log));
                assert_eq!(
                    running.said_within(10).await,
                    ["begins", "listed a@1", "still there uid-bad", "listed b@2", done]
                );
                assert_eq!(running.health.stats().undecodable(), unread);
                assert_eq!((running.failures(), running.lists()), (vec![], (1, 0)));
            }
        }
    })
    .await;
    assert!(logged.contains("uid-bad") && logged.contains("a field of the wrong type at line 1"), "{logged}");
    assert!(!logged.contains("SECRET"), "{logged}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_event_that_cannot_be_read_is_counted_and_passed_over() {
    let bad = r#"{"metadata":{"name":["SECRET"],"uid":"u","resourceVersion":"7"}}"#;
    let gone = r#"{"metadata":{"name":"a","uid":"uid-a","resourceVersion":"8"},"status":"SECRET"}"#;
    let (bad, gone, other) = (event("MODIFIED", bad), event("DELETED", gone), event("DANCED", bad));
    let logged = logged_by(async {
        for (lines, last) in [([&bad, &gone, &other], 8), ([&gone, &other, &bad], 7)] {
            let lines = lines.map(String::as_str).concat();
            let mut running =
                follow(script(vec![listed_then(&lines).cut(), Answer::ok(added("b", 9)).silence()]));
            assert_eq!(
                running.said_within(10).await,
                ["begins", "listed a@3", "done", "deleted a@8", "added b@9"]
            );
            assert_eq!(running.health.stats().undecodable(), 2);
            assert_eq!(running.failures(), [("connection", 1), ("other", 1)]);
            let resumed = &running.log.urls()[1];
            assert!(
                resumed.contains(&format!("resourceVersion={last}&")),
                "after what can't be read: {resumed}"
            );
        }
    })
    .await;
    assert!(!logged.contains("SECRET"), "{logged}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_logged_once_a_step_and_the_recovery_once() {
    let logged = logged_by(async {
        let mut running = follow(faulty_watch(4, Answer::refused(503, "starting")));
        running.said_within(300).await;
        assert_eq!(running.log.count(), 6);
    })
    .await;
    assert_eq!(logged.matches("WARN").count(), 4, "{logged}");
    assert_eq!(logged.matches("reason=server_error next_attempt_in=\"").count(), 4, "{logged}");
    assert_eq!(logged.matches("INFO").count(), 1, "{logged}");
    assert!(logged.contains("watching pods at cluster scope works again"), "{logged}");
    let loud = logged.lines().filter(|line| !line.contains(" DEBUG ") && !line.contains(" TRACE ")).count();
    assert_eq!(loud, 5, "{logged}");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_too_large_is_asked_for_in_smaller_pieces() {
    let huge = format!("\"{}\"", "x".repeat(1 << 20));
    let (client, log) = server(move |_, asked| match asked {
        asked if asked.is_streaming_list() => Answer::refused(422, ""),
        asked if asked.url.contains("limit=250") => {
            (0..65).fold(Answer::empty(), |answer, _| answer.text(huge.clone()))
        }
        asked if asked.is_page() => Answer::ok(page(5, "", &[pod("a", 1)])),
        _ => Answer::empty().silence(),
    });
    let mut running = follow((client, log));
    assert_eq!(running.said_within(10).await, ["begins", "listed a@1", "done"]);
    assert_eq!(running.log.urls()[2], "/api/v1/pods?limit=62");
    assert_eq!(running.lists(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn reads_no_further_than_the_channel_holds() {
    let answer = (0..1000).fold(Answer::empty(), |answer, i| answer.text(added("a", i)));
    let (client, _) = script(vec![answer.text(initial_events_end(2000)).silence()]);
    let health = Arc::new(Health::new(Target::all("pods"), Arc::default(), Clock::start()));
    let (sender, mut updates) = mpsc::channel(16);
    tokio::spawn(run::<Pod>(client, Arc::clone(&health), sender));
    // A receiver that is slow for ten minutes is no fault of the server.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(health.stats().events(EventKind::Added), 16);
    let mut seen = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_secs(1), updates.recv()).await {
        seen += 1;
    }
    assert_eq!(seen, 1002);
    assert!(FailureReason::ALL.iter().all(|reason| health.stats().failures(*reason) == 0));
}

/// Runs `work` and returns all that it logged, at any level.
async fn logged_by(work: impl Future<Output = ()>) -> String {
    use tracing::instrument::WithSubscriber;
    let capture = Capture::new();
    let writer = capture.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let dispatch = tracing::Dispatch::new(subscriber);
    let _guard = tracing::dispatcher::set_default(&dispatch);
    work.with_subscriber(dispatch.clone()).await;
    capture.text()
}
