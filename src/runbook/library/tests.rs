//! The files themselves: what links and both languages rely on.

use std::collections::BTreeSet;

use super::*;
use crate::runbook::fill::Placeholder;

/// The fenced blocks of a text: their info and their lines, without indentation.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if open => open = false,
            Some(info) => {
                open = true;
                found.push((info.to_owned(), String::new()));
            }
            None if open => {
                let block = &mut found.last_mut().unwrap().1;
                block.push_str(line.trim());
                block.push('\n');
            }
            None => {}
        }
    }
    assert!(!open, "a fence is not closed");
    found
}

/// The targets of links, without those to other sites.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.starts_with("http")).collect()
}

#[test]
fn both_languages_have_the_same_sections_commands_and_links() {
    for page in PAGES {
        let [english, korean] = Language::ALL.map(|language| page.text(language));
        let [in_english, in_korean] =
            Language::ALL.map(|language| page.anchors(language).collect::<Vec<_>>());
        assert_eq!(in_english, in_korean, "anchors of {}", page.name);
        assert_eq!(blocks(english), blocks(korean), "commands and outputs of {}", page.name);
        let headings = |text: &str| text.lines().filter(|line| line.starts_with('#')).count();
        assert_eq!(headings(english), headings(korean), "headings of {}", page.name);
        // The first is the switch between the languages.
        assert_eq!(links(english)[1..], links(korean)[1..], "links of {}", page.name);
    }
}

#[test]
fn every_page_has_the_sections_that_readers_expect_and_no_anchor_twice() {
    for page in PAGES {
        let anchors: Vec<_> = page.anchors(Language::English).collect();
        for section in ["meaning", "impact", "check", "solutions", "solved"] {
            assert!(anchors.contains(&section), "{} has no {section}", page.name);
        }
        assert_eq!(anchors.iter().collect::<BTreeSet<_>>().len(), anchors.len(), "{}", page.name);
        for anchor in anchors {
            assert!(anchor.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'), "{}#{anchor}", page.name);
            assert!(page.has_anchor(anchor));
        }
        assert!(!page.has_anchor("no_such_section"));
    }
}

#[test]
fn every_section_can_be_linked_to() {
    for page in PAGES {
        for language in Language::ALL {
            for line in page.text(language).lines().filter(|line| line.starts_with("## ")) {
                assert!(line.starts_with("## <a id=\""), "{}: {line}", page.name);
            }
        }
    }
}

#[test]
fn every_link_leads_to_a_page_and_a_section() {
    for page in PAGES {
        for link in links(page.text(Language::English)).into_iter().skip(1) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file.strip_suffix(".md") {
                Some(name) => Page::find(name).unwrap_or_else(|| panic!("{}: {link}", page.name)),
                None => {
                    assert_eq!(file, "", "{}: {link}", page.name);
                    page
                }
            };
            assert!(anchor.is_empty() || target.has_anchor(anchor), "{}: {link}", page.name);
        }
    }
}

#[test]
fn both_files_say_where_the_other_is_and_have_a_heading() {
    for page in PAGES {
        let name = page.name;
        let english = page.text(Language::English);
        assert!(english.starts_with(&format!("English · [한국어](ko/{name}.md)\n\n> `NAMESPACE`")), "{name}");
        let korean = page.text(Language::Korean);
        assert!(korean.starts_with(&format!("[English](../{name}.md) · 한국어\n\n> ")), "{name}");
        assert_ne!(page.title(Language::English), page.title(Language::Korean));
    }
}

#[test]
fn words_in_capitals_in_commands_are_placeholders_or_known_to_the_reader() {
    // Not filled in from links: what only the reader can know, and words of the tools.
    let others = [
        "IMAGE",
        "COMMAND",
        "PROGRAM",
        "PATH",
        "OF",
        "NAME",
        "CONTAINERS",
        "LIMITS",
        "REQUESTS",
        "REQUEST",
        "LIMIT",
        "NS",
        "REASON",
        "ON",
        "MESSAGE",
        "DEADLINE",
        "START",
        "FAILED",
        "UNSCHEDULABLE",
        "TAINTS",
        "KIND",
        "CHANGED",
    ];
    for page in PAGES {
        for (info, text) in blocks(page.text(Language::English)) {
            if !info.starts_with("sh") && info != "promql" {
                assert_eq!(info, "text", "{}", page.name);
                continue;
            }
            for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                let capitals = word.len() > 1 && word.bytes().all(|c| c.is_ascii_uppercase() || c == b'_');
                let known = Placeholder::ALL.iter().any(|p| p.word() == word) || others.contains(&word);
                assert!(!capitals || known, "{}: {word} in {text}", page.name);
            }
        }
    }
}

#[test]
fn the_files_in_the_folders_are_the_pages() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/runbooks");
    for folder in [root.to_owned(), format!("{root}/ko")] {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| {
                entry.unwrap().file_name().to_str().unwrap().strip_suffix(".md").map(str::to_owned)
            })
            .filter(|name| name != "README")
            .collect();
        names.sort();
        let mut pages: Vec<_> = PAGES.iter().map(|page| page.name).collect();
        pages.sort_unstable();
        assert_eq!(names, pages);
    }
}

#[test]
fn the_list_of_the_folder_names_every_page_by_its_heading() {
    let list = include_str!("../../../runbooks/README.md");
    for page in PAGES {
        let [english, korean] = Language::ALL.map(|language| page.title(language));
        let row = format!("| [{0}]({0}.md) | {english} | [{korean}](ko/{0}.md) |\n", page.name);
        assert!(list.contains(&row), "{row}");
    }
}
