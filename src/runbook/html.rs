//! Runbooks as HTML: Markdown rendered, commands filled in, links kept within the pages.

use pulldown_cmark::{CodeBlockKind, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::fill::{Names, Part};
use super::library::{Language, Page};

/// A rendered runbook, without its heading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// HTML of the text.
    pub body: String,
    /// Sections: anchor and heading, the latter as HTML.
    pub sections: Vec<(String, String)>,
}

/// Renders a runbook. `parameters` go behind the links to other runbooks.
#[must_use]
pub fn render(page: &Page, language: Language, names: &Names, parameters: &str) -> Rendered {
    let text = page.text(language);
    // What stands above the heading (the switch between the languages) is for readers of the raw file.
    let start = text.find("\n# ").map_or(0, |at| at + 1);
    let text = text[start..].split_once('\n').map_or("", |(_, rest)| rest);
    let mut renderer = Renderer { names, language, parameters, out: Rendered::default() };
    let mut events = Parser::new_ext(text, Options::ENABLE_TABLES);
    let mut batch = Vec::new();
    while let Some(event) = events.next() {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                renderer.flush(&mut batch);
                renderer.code(&info, &text_of(&mut events, TagEnd::CodeBlock));
            }
            Event::Start(Tag::Heading { level: HeadingLevel::H2, .. }) => {
                renderer.flush(&mut batch);
                renderer.section(&mut events);
            }
            event => batch.push(renderer.adapt(event)),
        }
    }
    renderer.flush(&mut batch);
    renderer.out
}

/// The text up to the end of the element.
fn text_of<'a>(events: &mut impl Iterator<Item = Event<'a>>, end: TagEnd) -> String {
    let mut text = String::new();
    for event in events {
        match event {
            Event::End(tag) if tag == end => break,
            Event::Text(piece) => text.push_str(&piece),
            _ => {}
        }
    }
    text
}

struct Renderer<'n> {
    names: &'n Names,
    language: Language,
    parameters: &'n str,
    out: Rendered,
}

impl Renderer<'_> {
    fn flush(&mut self, batch: &mut Vec<Event<'_>>) {
        pulldown_cmark::html::push_html(&mut self.out.body, batch.drain(..));
    }

    fn adapt<'e>(&self, event: Event<'e>) -> Event<'e> {
        match event {
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                let dest_url = self.link(dest_url);
                Event::Start(Tag::Link { link_type, dest_url, title, id })
            }
            event => event,
        }
    }

    /// Links between the files lead to the pages, with the names.
    fn link<'e>(&self, target: CowStr<'e>) -> CowStr<'e> {
        if target.contains(':') {
            return target;
        }
        let (file, fragment) = target.split_once('#').map_or((&*target, None), |(f, a)| (f, Some(a)));
        let Some(name) = file.strip_suffix(".md") else { return target };
        let fragment = fragment.map(|fragment| format!("#{fragment}")).unwrap_or_default();
        CowStr::from(format!("{name}{}{fragment}", self.parameters))
    }

    fn section<'e>(&mut self, events: &mut impl Iterator<Item = Event<'e>>) {
        let (mut anchors, mut heading) = (String::new(), Vec::new());
        for event in events {
            match event {
                Event::End(TagEnd::Heading(_)) => break,
                Event::InlineHtml(html) => anchors.push_str(&html),
                event => heading.push(event),
            }
        }
        let mut title = String::new();
        pulldown_cmark::html::push_html(&mut title, heading.into_iter());
        let first = anchors.split('"').nth(1).unwrap_or_default().to_owned();
        let body = &mut self.out.body;
        for part in ["<h2>", &anchors, "<a href=\"#", &first, "\">", &title, "</a></h2>\n"] {
            body.push_str(part);
        }
        self.out.sections.push((first, title));
    }

    fn code(&mut self, info: &str, text: &str) {
        let body = &mut self.out.body;
        let mut words = info.split_whitespace();
        let kind = words.next();
        if !matches!(kind, Some("sh" | "promql")) {
            body.push_str("<pre class=\"output\" tabindex=\"0\"><samp>");
            push_escaped(body, text);
            body.push_str("</samp></pre>\n");
        } else if words.next() == Some("rollout") && !self.names.has_rollouts() {
            body.push_str(match self.language {
                Language::English => {
                    "<p class=\"note\">(<code>kubectl rollout</code> does not know this kind of workload: apply the \
                     earlier manifest from your repository.)</p>\n"
                }
                Language::Korean => {
                    "<p class=\"note\">(이 종류의 워크로드에는 <code>kubectl rollout</code>을 쓸 수 없습니다. 저장소에 \
                     있는 이전 매니페스트를 적용하세요.)</p>\n"
                }
            });
        } else {
            push_filled(body, if kind == Some("sh") { "command" } else { "command query" }, self.names, text);
        }
    }
}

/// A command, filled in.
pub fn push_command(out: &mut String, names: &Names, command: &str) {
    push_filled(out, "command", names, command);
}

fn push_filled(out: &mut String, class: &str, names: &Names, command: &str) {
    for part in ["<pre class=\"", class, "\" tabindex=\"0\"><code>"] {
        out.push_str(part);
    }
    for part in names.fill(command) {
        match part {
            Part::Text(text) => push_escaped(out, text),
            Part::Name(name) => {
                out.push_str("<b>");
                push_escaped(out, name);
                out.push_str("</b>");
            }
            Part::Open(placeholder) => {
                out.push_str("<mark>");
                out.push_str(placeholder.word());
                out.push_str("</mark>");
            }
        }
    }
    out.push_str("</code></pre>\n");
}

/// Text as HTML, fit for elements and quoted attributes.
pub fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runbook::library::PAGES;

    fn names(parameters: &[(&str, &str)]) -> Names {
        let owned: Vec<_> = parameters.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Names::read(&owned)
    }

    fn page(name: &str) -> &'static Page {
        Page::find(name).unwrap()
    }

    #[test]
    fn commands_are_filled_in_and_what_is_unknown_stands_out() {
        let mut out = String::new();
        push_command(
            &mut out,
            &names(&[("namespace", "shop")]),
            "get -n NAMESPACE POD > '<x>' && echo \"a\"",
        );
        assert_eq!(
            out,
            "<pre class=\"command\" tabindex=\"0\"><code>get -n <b>shop</b> <mark>POD</mark> &gt; &#39;&lt;x&gt;&#39; \
             &amp;&amp; echo &quot;a&quot;</code></pre>\n"
        );
    }

    #[test]
    fn every_page_renders_in_both_languages_with_all_its_sections() {
        for page in PAGES {
            for language in Language::ALL {
                let rendered = render(page, language, &Names::default(), "");
                let body = &rendered.body;
                for anchor in page.anchors(language) {
                    assert!(body.contains(&format!("<a id=\"{anchor}\"></a>")), "{}#{anchor}", page.name);
                }
                assert!(
                    rendered.sections.iter().all(|(anchor, title)| !anchor.is_empty() && !title.is_empty())
                );
                assert!(
                    !body.contains("<h1") && !body.contains("```") && !body.contains(".md"),
                    "{}",
                    page.name
                );
                for (open, close) in
                    [("<pre", "</pre>"), ("<li>", "</li>"), ("<table>", "</table>"), ("<h2>", "</h2>")]
                {
                    assert_eq!(
                        body.matches(open).count(),
                        body.matches(close).count(),
                        "{}: {open}",
                        page.name
                    );
                }
                assert!(!body.contains("<script") && !body.contains("style="), "{}", page.name);
            }
        }
    }

    #[test]
    fn no_placeholder_stays_open_where_all_names_are_known() {
        let all = names(&[
            ("namespace", "shop"),
            ("workload_type", "deployment"),
            ("workload", "web"),
            ("container", "app"),
            ("pod", "web-0"),
            ("node", "node-1"),
        ]);
        for page in PAGES {
            for language in Language::ALL {
                let body = render(page, language, &all, "").body;
                assert!(!body.contains("<mark>"), "{}", page.name);
            }
        }
        let body = render(page("1"), Language::English, &all, "").body;
        let logs =
            "kubectl logs -n <b>shop</b> <b>web-0</b> -c <b>app</b> --previous --timestamps --tail=100\n";
        assert!(body.contains(logs));
        let body = render(page("137"), Language::English, &all, "").body;
        assert!(
            body.contains("kubectl set resources <b>deployment</b>/<b>web</b> -n <b>shop</b> -c <b>app</b>")
        );
        assert!(
            body.contains("{namespace=&quot;<b>shop</b>&quot;,workload=&quot;<b>web</b>&quot;"),
            "queries too"
        );
    }

    #[test]
    fn links_lead_to_pages_with_the_names() {
        let body = render(page("0"), Language::English, &Names::default(), "?namespace=shop&lang=en").body;
        assert!(body.contains("<a href=\"137?namespace=shop&amp;lang=en#oom_limit\">"));
        assert!(body.contains("<a href=\"#liveness_probe\">"), "within the page they stay");
    }

    #[test]
    fn workloads_without_rollouts_get_no_rollout_commands() {
        for (kind, has) in
            [("deployment", true), ("daemonset", true), ("cronjob", false), ("barepod", false), ("", true)]
        {
            let names = names(&[("workload_type", kind)]);
            for (language, note) in
                [(Language::English, "does not know this kind"), (Language::Korean, "쓸 수 없습니다")]
            {
                let body = render(page("1"), language, &names, "").body;
                assert_eq!(body.contains("kubectl rollout undo"), has, "{kind}");
                assert_eq!(body.contains(note), !has, "{kind}");
            }
        }
    }

    #[test]
    fn text_is_escaped_for_elements_and_attributes() {
        let mut out = String::new();
        push_escaped(&mut out, "<a href=\"x\" b='y'>&é漢</a>");
        assert_eq!(out, "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;é漢&lt;/a&gt;");
    }
}
