//! A walk through YAML by hand, so that every complaint names the key and none shows a value that may be a secret.

use std::fmt;

use serde_json::{Map, Value};

/// The keys and values at a place of the file.
pub(super) struct Section<'a> {
    /// Where it is, with a dot at the end; empty at the top.
    place: &'static str,
    values: &'a Map<String, Value>,
}

impl fmt::Debug for Section<'_> {
    /// Without the values, of which some are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The file as a value; nothing at all is an empty section.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, String> {
    match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err("it holds no keys".to_owned()),
        // What the parser says quotes the file, and with it a secret.
        Err(error) => Err(match error.location() {
            Some(at) => format!("line {}, column {}: {}", at.line(), at.column(), kind(&error)),
            None => kind(&error).to_owned(),
        }),
    }
}

fn kind(error: &serde_saphyr::Error) -> &'static str {
    match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { .. } => "a key is there twice",
        _ => "it is no valid YAML",
    }
}

impl<'a> Section<'a> {
    /// The top of the file.
    pub(super) fn top(values: &'a Map<String, Value>) -> Self {
        Self { place: "", values }
    }

    /// Every key is one of these.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), String> {
        match self.values.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(format!("{}{key} is no key: there are {}", self.place, known.join(", "))),
        }
    }

    /// The section below a key, which is known by `place`.
    pub(super) fn section(&self, key: &str, place: &'static str) -> Result<Option<Section<'a>>, String> {
        Ok(self.map(key)?.map(|values| Section { place, values }))
    }

    /// All keys and values below a key.
    pub(super) fn map(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(values)) => Ok(Some(values)),
            Some(_) => Err(self.wrong(key, "it holds no keys")),
        }
    }

    /// A text; an empty one is none, as the toolkit reads it.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.wrong(key, "it is no text")),
        }
    }

    /// Yes or no, in the words of YAML 1.1, which the toolkit reads.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(word)) if ["yes", "on"].contains(&word.as_str()) => Ok(Some(true)),
            Some(Value::String(word)) if ["no", "off"].contains(&word.as_str()) => Ok(Some(false)),
            Some(_) => Err(self.wrong(key, "it is neither true nor false")),
        }
    }

    /// A whole number that is not negative.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| self.wrong(key, "it is no whole number")),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<&'a str>, String> {
        let list = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(self.wrong(key, "it is no list")),
        };
        list.iter()
            .map(|value| value.as_str().ok_or_else(|| self.wrong(key, "it holds something that is no text")))
            .collect()
    }

    /// A complaint about a key.
    pub(super) fn wrong(&self, key: &str, problem: &str) -> String {
        format!("{}{key}: {problem}", self.place)
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }
}
