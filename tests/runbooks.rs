//! The pages as a browser gets them: runbooks filled in from links, and the overview.

#![cfg(test)]

use std::sync::Arc;

use axum::body::Body;
use exitcode_exporter::core::Effect;
use exitcode_exporter::exposition::{OwnMetrics, Sources};
use exitcode_exporter::publish::{PublishOptions, Published};
use exitcode_exporter::runbook::Runbooks;
use exitcode_exporter::runbook::library::{Language, PAGES};
use exitcode_exporter::server::{self, Access, Limits};
use exitcode_exporter::termination::{
    Cause, ContainerType, Evidence, ExitCode, Outcome, Reason, Subject, Termination, Workload,
};
use exitcode_exporter::time::{Clock, Timestamp};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;

const POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const LINK: &str = "/runbooks/137?namespace=shop&workload_type=deployment&workload=web&container=app";

fn published(options: PublishOptions) -> Arc<Published> {
    let own = OwnMetrics::new(Sources::default());
    Arc::new(Published::new(
        options,
        own,
        Clock::start(),
        Arc::new(|| Err("the first <list> is not in".to_owned())),
    ))
}

fn end(container: &str, pod: &str, code: i32, cause: Cause) -> Termination {
    let at = Timestamp::parse("2026-11-22T10:00:01.500Z").unwrap();
    Termination {
        subject: Subject {
            workload: Workload {
                namespace: "shop".into(),
                workload_type: "deployment".into(),
                name: "web".into(),
            },
            container: container.into(),
            container_type: ContainerType::App,
            extra: Arc::new([]),
        },
        outcome: Outcome { exit_code: ExitCode(Some(code)), reason: Reason::Error, cause },
        count: 1,
        evidence: Evidence::Event,
        pod: pod.into(),
        node: "node-1".into(),
        started_at: Timestamp::parse("2026-11-22T09:59:01Z"),
        finished_at: Some(at),
        counted_at: at,
        restart_count: 3,
        image: "app:1".into(),
        message: Some("a line of its log".into()),
        windows: false,
    }
}

fn count(published: &Published, end: Termination) {
    published.apply(&Effect::Terminated(Box::new(end)), published.clock.now());
}

async fn ask(published: &Arc<Published>, method: &str, target: &str, language: &str) -> Response<String> {
    let request = Request::builder().method(method).uri(target).header("accept-language", language);
    let router = server::router(Arc::clone(published), &Limits::default(), Access::new(None, false).unwrap());
    let answer = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Response::from_parts(head, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(published: &Arc<Published>, target: &str) -> Response<String> {
    ask(published, "GET", target, "").await
}

fn header<'a>(answer: &'a Response<String>, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn commands_carry_the_names_of_the_link_and_the_pod_of_the_last_end() {
    let published = published(PublishOptions::default());
    count(&published, end("app", "web-1", 137, Cause::LivenessProbe));
    count(&published, end("app", "web-2", 1, Cause::Application));
    count(&published, end("other", "web-3", 137, Cause::OomLimit));
    let answer = get(&published, LINK).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let page = answer.body();
    let logs = "kubectl logs -n <b>shop</b> <b>web-1</b> -c <b>app</b> --previous --timestamps --tail=100\n";
    assert!(page.contains(logs), "the last end with the page's code names the pod: {page}");
    assert!(page.contains("kubectl describe node <b>node-1</b>"));
    assert!(page.contains("<td>2026-11-22T10:00:01Z</td><td>137</td><td><a href=\"#liveness_probe\">liveness_probe</a></td><td>60 s</td><td>web-1</td>"));
    assert!(page.contains("<td>1</td><td>application</td>"), "what the page does not explain is no link");
    assert!(!page.contains("web-3") && !page.contains("<mark>") && !page.contains("its log</td>"));
    let given = get(&published, &format!("{LINK}&pod=web-0")).await;
    assert!(given.body().contains("logs -n <b>shop</b> <b>web-0</b>"), "a pod in the link comes first");
}

#[tokio::test]
async fn without_a_known_pod_the_page_says_how_to_find_it() {
    let published = published(PublishOptions::default());
    let page = get(&published, LINK).await.into_body();
    assert!(page.contains("kubectl get pods -n <b>shop</b> -o wide | grep &#39;^<b>web</b>&#39;"));
    assert!(page.contains("<mark>POD</mark>") && page.contains("No end of this container has been seen"));
}

#[tokio::test]
async fn what_is_no_kubernetes_name_never_reaches_the_page() {
    let published = published(PublishOptions::default());
    for value in [
        "evil%3Breboot",
        "%24(evil)",
        "%60evil%60",
        "evil%22",
        "evil%27",
        "evil%0Areboot",
        "%3Cscript%3Eevil",
        "evil+x",
        "evil%00",
        "-evil%FF",
        "EVIL",
        "evil%26%26",
        "evil%7Cx",
        "e%3Bvil",
    ] {
        for parameter in ["namespace", "workload_type", "workload", "container", "pod", "node", "lang"] {
            let answer = get(&published, &format!("/runbooks/137?{parameter}={value}")).await;
            assert_eq!(answer.status(), StatusCode::OK);
            let page = answer.body();
            assert!(
                !page.to_lowercase().contains("evil") && !page.contains("reboot;"),
                "{parameter}={value}"
            );
            let refused = page.contains(&format!("<code>{parameter}</code>: what the link gives is not"));
            assert_eq!(refused, parameter != "lang", "{parameter}={value}");
            assert!(page.contains("<mark>NAMESPACE</mark>"));
        }
    }
    let huge = "a".repeat(60_000);
    let answer = get(
        &published,
        &format!("/runbooks/137?namespace={huge}&workload={huge}").replace(&huge[..30_000], ""),
    )
    .await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.body().contains("aaaa"));
}

#[tokio::test]
async fn names_on_the_board_are_checked_and_escaped_like_those_of_links() {
    let published = published(PublishOptions::default());
    let mut odd = end("app", "$(reboot)<b>\n", 137, Cause::Killed);
    odd.node = "<img>".into();
    count(&published, odd);
    let page = get(&published, LINK).await.into_body();
    assert!(page.contains("logs -n <b>shop</b> <mark>POD</mark>"));
    assert!(page.contains("<td>$(reboot)&lt;b&gt;\\n</td>"));
    let overview = get(&published, "/").await.into_body();
    assert!(overview.contains("<td>&lt;img&gt;</td>") && !overview.contains("<img"));
}

#[tokio::test]
async fn every_page_and_file_is_served_with_the_right_headers() {
    let published = published(PublishOptions::default());
    for page in PAGES {
        let answer = get(&published, &format!("/runbooks/{}", page.name)).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(header(&answer, "content-type"), "text/html; charset=utf-8");
        assert_eq!(header(&answer, "content-security-policy"), POLICY);
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
        assert_eq!(header(&answer, "vary"), "Accept-Language");
        let html = answer.body();
        for part in [
            "<meta name=\"viewport\"",
            "<html lang=\"en\">",
            &format!("<link rel=\"canonical\" href=\"{}\">", page.name),
        ] {
            assert!(html.contains(part), "{}: {part}", page.name);
        }
        assert!(!html.contains("<script") && !html.contains(" style=") && !html.contains(" onclick"));
        for (path, language) in [("", Language::English), ("ko/", Language::Korean)] {
            let raw = get(&published, &format!("/runbooks/{path}{}.md", page.name)).await;
            assert_eq!((raw.status(), raw.body().as_str()), (StatusCode::OK, page.text(language)));
            assert_eq!(header(&raw, "content-type"), "text/markdown; charset=utf-8");
            assert_eq!(header(&raw, "content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
        }
    }
    let style = get(&published, "/style.css").await;
    assert_eq!((style.status(), header(&style, "content-type")), (StatusCode::OK, "text/css; charset=utf-8"));
}

#[tokio::test]
async fn the_language_is_that_of_the_link_else_the_readers() {
    let published = published(PublishOptions::default());
    for (target, accept, tag) in [
        ("/runbooks/137", "", "en"),
        ("/runbooks/137", "ko-KR,ko;q=0.9,en;q=0.5", "ko"),
        ("/runbooks/137", "en-US,en;q=0.9,ko;q=0.5", "en"),
        ("/runbooks/137?lang=en", "ko", "en"),
        ("/runbooks/137?lang=ko", "en", "ko"),
        ("/runbooks/137?lang=xx", "ko", "ko"),
        ("/runbooks/", "ko", "ko"),
        ("/runbooks/?lang=en", "ko", "en"),
    ] {
        let answer = ask(&published, "GET", target, accept).await;
        assert_eq!(header(&answer, "content-language"), tag, "{target} {accept}");
        assert!(answer.body().contains(&format!("<html lang=\"{tag}\">")));
        let other = if tag == "en" { "lang=ko\">한국어" } else { "lang=en\">English" };
        assert!(answer.body().contains(other), "{target} {accept}");
    }
    let page = get(&published, &format!("{LINK}&lang=ko")).await.into_body();
    assert!(page.contains("<h1>종료 코드 137"));
    assert!(page.contains("href=\"137?namespace=shop&amp;workload_type=deployment&amp;workload=web&amp;container=app&amp;lang=en\""));
}

#[tokio::test]
async fn methods_and_paths_that_do_not_fit_are_refused_with_a_way_on() {
    let published = published(PublishOptions::default());
    for (method, target, status) in [
        ("HEAD", "/runbooks/137", 200),
        ("HEAD", "/runbooks/137.md", 200),
        ("POST", "/runbooks/137", 405),
        ("DELETE", "/runbooks/", 405),
        ("GET", "/runbooks/138", 404),
        ("GET", "/runbooks/138.md", 404),
        ("GET", "/runbooks/ko/137", 404),
        ("GET", "/runbooks/137/", 404),
        ("GET", "/runbooks/%3Cscript%3E", 404),
        ("GET", "/runbooks/..%2F137", 404),
        ("GET", "/runbooks", 308),
        ("GET", "/runbooks/", 200),
    ] {
        let answer = ask(&published, method, target, "").await;
        assert_eq!(answer.status().as_u16(), status, "{method} {target}");
        assert_eq!(answer.body().is_empty(), method == "HEAD" || status == 308, "{method} {target}");
        assert!(!answer.body().contains("<script"));
    }
    let unknown = get(&published, "/runbooks/138").await.into_body();
    assert!(unknown.contains("<a href=\"./\">All runbooks</a>"));
    assert_eq!(header(&get(&published, "/runbooks").await, "location"), "runbooks/");
    let index = get(&published, "/runbooks/").await.into_body();
    for page in PAGES {
        assert!(index.contains(&format!("<li><a href=\"{}?lang=en\">", page.name)));
    }
    let named = get(&published, "/runbooks/?namespace=shop&workload=%22").await.into_body();
    assert!(
        named.contains("<li><a href=\"137?namespace=shop&amp;lang=en\">"),
        "names stay on the way through the list"
    );
}

#[tokio::test]
async fn the_overview_shows_the_last_ends_with_their_runbooks() {
    let published = published(PublishOptions::default());
    let empty = get(&published, "/").await;
    assert_eq!(header(&empty, "content-security-policy"), POLICY);
    assert!(empty.body().contains("not ready: the first &lt;list&gt; is not in"));
    assert!(empty.body().contains("No container has ended"));
    count(&published, end("app", "web-1", 137, Cause::LivenessProbe));
    let page = get(&published, "/").await.into_body();
    assert!(page.contains(
        "<tr><td>2026-11-22T10:00:01Z</td><td>shop</td><td>deployment/web</td><td>app</td><td>137 SIGKILL</td><td>Error</td>\
         <td><a href=\"runbooks/137?namespace=shop&amp;workload_type=deployment&amp;workload=web&amp;container=app#liveness_probe\">\
         liveness_probe</a></td><td>60 s</td><td>node-1</td></tr>"
    ));
    assert!(!page.contains("a line of its log"), "messages may hold secrets");
}

#[tokio::test]
async fn links_go_to_the_base_that_is_set() {
    let options =
        PublishOptions { runbooks: Runbooks::new("https://books.example/x"), ..PublishOptions::default() };
    let published = published(options);
    count(&published, end("app", "web-1", 143, Cause::Killed));
    let page = get(&published, "/").await.into_body();
    assert!(page.contains("href=\"https://books.example/x/143?namespace=shop&amp;"));
    assert!(page.contains("container=app#killed\""));
}
