//! The runbooks that are part of the binary, in two languages.

/// A language that runbooks are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Korean.
    Korean,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 2] = [Self::English, Self::Korean];

    /// Its tag (BCP 47).
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Korean => "ko",
        }
    }

    /// The language with this tag.
    #[must_use]
    pub fn from_tag(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.tag() == tag)
    }
}

/// A runbook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// What it is called in links: an exit code or a topic.
    pub name: &'static str,
    english: &'static str,
    korean: &'static str,
}

macro_rules! pages {
    ($($name:literal),+ $(,)?) => {
        /// Every runbook, in the order of the index.
        pub const PAGES: &[Page] = &[$(Page {
            name: $name,
            english: include_str!(concat!("../../runbooks/", $name, ".md")),
            korean: include_str!(concat!("../../runbooks/ko/", $name, ".md")),
        },)+];
    };
}

pages![
    "0",
    "1",
    "2",
    "126",
    "127",
    "128",
    "134",
    "137",
    "139",
    "143",
    "255",
    "other",
    "signals",
    "windows",
    "restart-storm",
    "pod-failures",
    "exporter",
];

impl Page {
    /// The runbook of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        PAGES.iter().find(|page| page.name == name)
    }

    /// Its Markdown.
    #[must_use]
    pub const fn text(&self, language: Language) -> &'static str {
        match language {
            Language::English => self.english,
            Language::Korean => self.korean,
        }
    }

    /// Its heading.
    #[must_use]
    pub fn title(&self, language: Language) -> &'static str {
        self.text(language).lines().find_map(|line| line.strip_prefix("# ")).unwrap_or(self.name)
    }

    /// The names that a link's fragment can have, in order: `<a id="…"></a>` in the text, which GitHub understands too.
    pub fn anchors(&self, language: Language) -> impl Iterator<Item = &'static str> {
        self.text(language).split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next())
    }

    /// Whether a link's fragment can have this name.
    #[must_use]
    pub fn has_anchor(&self, anchor: &str) -> bool {
        self.anchors(Language::English).any(|have| have == anchor)
    }
}

#[cfg(test)]
mod tests;
