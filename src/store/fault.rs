//! Points at which a test may end the process, or make the disk fail, on purpose. They do nothing but in a build
//! with the feature `fault-points`, and in unit tests.
//!
//! `EXITCODE_FAULT_POINT=NAME:N` ends the process, as a crash would, when the point is passed for the Nth time;
//! the name `disk-write` tears the Nth write to the file in two and ends it between them, and `other-form:1` writes
//! a file as another version would.

use std::io;

#[cfg(feature = "fault-points")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let text = std::env::var("EXITCODE_FAULT_POINT").ok()?;
        let (name, number) = text.split_once(':')?;
        Some((name.to_owned(), number.parse().ok()?))
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);

    pub fn is_due(name: &str) -> bool {
        ARMED.as_ref().is_some_and(|(armed, number)| {
            armed == name && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *number
        })
    }
}

#[cfg(not(feature = "fault-points"))]
mod armed {
    pub const fn is_due(_: &str) -> bool {
        false
    }
}

/// The process may end here.
pub fn point(name: &str) {
    if armed::is_due(name) {
        std::process::abort();
    }
}

/// The form that a file is said to have: with the point `other-form` that of another version.
pub fn form(form: u32) -> u32 {
    if armed::is_due("other-form") { form.saturating_add(1) } else { form }
}

/// Before a write of so many bytes: how many of them to write before the process ends.
pub fn torn(bytes: usize) -> Option<usize> {
    armed::is_due("disk-write").then_some(bytes / 2)
}

/// Fails where a test made this file's disk fail.
pub fn check(path: &std::path::Path) -> io::Result<()> {
    #[cfg(test)]
    disk::check(path)?;
    let _ = path;
    Ok(())
}

#[cfg(test)]
pub mod disk {
    //! A disk that fails on demand, by test (each has a thread of its own, and so has what it spawns on it).
    use std::collections::HashMap;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::{LazyLock, Mutex, PoisonError};

    /// How many more uses go well, and how the next ones fail.
    static FAILING: LazyLock<Mutex<HashMap<PathBuf, (u32, io::ErrorKind)>>> = LazyLock::new(Mutex::default);

    /// From now on the disk of this file fails, or works again.
    pub fn fail(path: &Path, kind: Option<io::ErrorKind>) {
        let mut failing = FAILING.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            Some(kind) => failing.insert(path.to_owned(), (0, kind)),
            None => failing.remove(path),
        };
    }

    /// After so many more writes nothing reaches the disk of this file any more: as if the process had ended there.
    pub fn end_after(path: &Path, writes: u32) {
        let mut failing = FAILING.lock().unwrap_or_else(PoisonError::into_inner);
        failing.insert(path.to_owned(), (writes, io::ErrorKind::Other));
    }

    /// Fails if the disk of this file does.
    pub fn check(path: &Path) -> io::Result<()> {
        let mut failing = FAILING.lock().unwrap_or_else(PoisonError::into_inner);
        match failing.get_mut(path) {
            None => Ok(()),
            Some((0, kind)) => Err((*kind).into()),
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}
