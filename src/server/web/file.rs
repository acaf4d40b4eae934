//! Reads files, and tells whether what was read has changed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};

/// The largest file that is read: certificates and users are a few kilobytes.
const LARGEST: u64 = 1 << 20;

/// What was read, as digests: secrets are not kept.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<(PathBuf, Vec<u8>)>);

impl Files {
    /// Reads a file. The error names the file only if it is not the configuration itself, which the line names anyway.
    pub(super) fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let found = read(path);
        self.0.push((path.to_owned(), summary(&found)));
        found
    }

    /// Reads the configuration.
    pub(super) fn text(&mut self, path: &Path) -> Result<String, String> {
        String::from_utf8(self.read(path)?).map_err(|_| "it is no UTF-8 text".to_owned())
    }

    /// Whether one of the files would be read differently now.
    pub(super) fn changed(&self) -> bool {
        self.0.iter().any(|(path, known)| summary(&read(path)) != *known)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("it can't be read: {error}");
    // Asked before it is opened: to open a pipe waits for its writer.
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut content = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut content)).map_err(cannot)?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > LARGEST {
        return Err("it is larger than 1 MiB".to_owned());
    }
    Ok(content)
}

fn summary(found: &Result<Vec<u8>, String>) -> Vec<u8> {
    match found {
        Ok(content) => digest(&SHA256, content).as_ref().to_vec(),
        Err(problem) => problem.clone().into_bytes(),
    }
}
