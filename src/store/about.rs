//! What the file says about itself. It is JSON, so that every version can read who wrote it.

use serde::{Deserialize, Serialize};

use crate::core::Scope;

/// The form of the rows. Raise it with any change to what is saved: `the_saved_form_is_this_one` tells.
pub const FORM: u32 = 1;

/// Who wrote the file, and what of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The form of its rows.
    pub form: u32,
    /// The process that wrote it last.
    pub writer: u64,
    /// Uid of the cluster's namespace kube-system; `None` if that could not be asked.
    pub cluster: Option<String>,
    /// What was watched.
    pub watched: Watched,
    /// RFC 3339.
    pub saved_at: String,
}

/// Which namespaces are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watched {
    /// None means all.
    pub namespaces: Vec<String>,
    /// Those that are not counted.
    pub excluded: Vec<String>,
}

impl About {
    /// Reads what [`About::text`] wrote.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// As it is written.
    pub fn text(&self) -> String {
        // Strings and numbers: it can't fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Watched {
    /// The list that shows the pods of a namespace.
    pub fn scope_of(&self, namespace: &str) -> Option<Scope> {
        if self.excluded.iter().any(|excluded| excluded == namespace) {
            return None;
        }
        if self.namespaces.is_empty() {
            return Some(Scope(0));
        }
        let index = self.namespaces.iter().position(|watched| watched == namespace)?;
        Some(Scope(u16::try_from(index).unwrap_or(u16::MAX)))
    }

    /// For each list, whether all that it shows was watched `before`.
    pub fn known(&self, before: &Self) -> Vec<bool> {
        if self.namespaces.is_empty() {
            let more = before.excluded.iter().any(|excluded| !self.excluded.contains(excluded));
            return vec![before.namespaces.is_empty() && !more];
        }
        self.namespaces.iter().map(|namespace| before.scope_of(namespace).is_some()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(namespaces: &[&str], excluded: &[&str]) -> Watched {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Watched { namespaces: owned(namespaces), excluded: owned(excluded) }
    }

    #[test]
    fn a_list_is_known_if_all_that_it_shows_was_watched() {
        for (before, now, known) in [
            (watched(&[], &[]), watched(&[], &[]), vec![true]),
            (watched(&[], &[]), watched(&["a", "b"], &[]), vec![true, true]),
            (watched(&[], &["a"]), watched(&["a", "b"], &[]), vec![false, true]),
            (watched(&["a"], &[]), watched(&[], &[]), vec![false]),
            (watched(&["a"], &[]), watched(&["b", "a"], &[]), vec![false, true]),
            (watched(&[], &["a"]), watched(&[], &[]), vec![false]),
            (watched(&[], &["a"]), watched(&[], &["a", "b"]), vec![true]),
        ] {
            assert_eq!(now.known(&before), known, "{before:?} -> {now:?}");
        }
    }

    #[test]
    fn each_namespace_has_one_list_or_none() {
        assert_eq!(watched(&[], &["b"]).scope_of("a"), Some(Scope(0)));
        assert_eq!(watched(&[], &["b"]).scope_of("b"), None);
        assert_eq!(watched(&["a", "b"], &[]).scope_of("b"), Some(Scope(1)));
        assert_eq!(watched(&["a", "b"], &["b"]).scope_of("b"), None);
        assert_eq!(watched(&["a"], &[]).scope_of("c"), None);
    }

    #[test]
    fn what_another_version_wrote_is_read_as_far_as_it_goes() {
        let later = r#"{"form":7,"writer":1,"more":{"x":1}}"#;
        assert_eq!(About::parse(later).unwrap().form, 7);
        assert!(About::parse("\u{0}").is_err());
    }
}
