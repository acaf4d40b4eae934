//! Saved state: what is counted outlives the process. The whole state of the core, the series and the board is kept
//! in one file, written in one batch at most once a second, and nothing is shown before it is on disk.
//!
//! | room | holds |
//! |---|---|
//! | `about` | who wrote the file, and what of |
//! | `file` | opening, checking, reading and writing it |
//! | `saver` | when to write, and what to do when that fails |
//! | `resume` | going on from what was saved |
//! | `cluster` | which cluster this is |
//! | `health` | how saving goes |
//! | `fault` | points at which tests end the process |

mod about;
mod cluster;
pub mod fault;
mod file;
mod health;
mod resume;
mod saver;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use about::{About, FORM, Watched};
pub use cluster::cluster_uid;
pub use file::FileError;
pub use health::{StateHealth, StateSnapshot};
pub use resume::Resuming;
pub use saver::{SaveOutcome, Saver};

use crate::board::Board;
use crate::core::State;
use crate::rows::{Batch, Row, Table, Unreadable};
use crate::series::Series;
use crate::time::Timestamp;
use file::StateFile;

/// What is kept: empty, or as it was saved.
#[derive(Debug)]
pub struct Kept {
    /// The core.
    pub state: State,
    /// The counts.
    pub series: Series,
    /// The last terminations.
    pub board: Board,
}

impl Kept {
    fn restore(&mut self, row: &Row<'_>) -> Result<(), Unreadable> {
        match row.table {
            Table::Core
            | Table::Pods
            | Table::Gone
            | Table::Owners
            | Table::Climbed
            | Table::Evidence
            | Table::Nodes
            | Table::History
            | Table::Pending => self.state.restore(row),
            Table::Terminations
            | Table::Restarts
            | Table::PodFailures
            | Table::NodeTerminations
            | Table::LastTerminations
            | Table::Groups
            | Table::NodeCounted => self.series.restore(row),
            Table::Board => self.board.restore(row),
        }
    }
}

/// The file, open or not, and who writes it.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    file: Option<StateFile>,
    /// This process, and the one whose rows it went on from.
    writers: [u64; 2],
    /// The file holds rows that are not written again unless they change.
    holds: bool,
    /// What is wrong with a file that is there and could not be moved aside yet.
    unfit: Option<&'static str>,
}

/// What a start found.
#[derive(Debug)]
pub struct Begun {
    /// The store to write to.
    pub store: Store,
    /// What was saved, unless the start is empty.
    pub restored: Option<(Kept, About)>,
    /// What to tell about it.
    pub notes: Vec<String>,
    /// Why nothing can be saved now.
    pub unwritable: Option<FileError>,
}

/// Why a file that was read is not gone on from.
struct Unfit {
    word: &'static str,
    why: String,
}

impl Unfit {
    fn damaged(error: &FileError) -> Self {
        Self { word: "damaged", why: format!("cannot be read ({error})") }
    }
}

/// What is said of a file in which redb found what it takes for impossible.
const CONTRADICTION: &str = "it contradicts itself";

enum Opened {
    New(Option<StateFile>),
    Saved(Option<StateFile>, Box<(Kept, About)>),
    Unfit(Unfit),
}

impl Store {
    /// Goes on from the file in this directory, or begins one. A file that can't be gone on from is moved aside, never
    /// overwritten; one that can be read but not written is gone on from, and written once that works.
    ///
    /// # Errors
    /// If the file is there but can't be read now: try again later, since starting empty would lose it.
    pub fn begin(
        dir: &Path,
        writer: u64,
        cluster: Option<&str>,
        empty: impl Fn() -> Kept,
        now: Timestamp,
    ) -> Result<Begun, FileError> {
        // If it can't be made, opening the file says why.
        let _ = fs::create_dir_all(dir);
        let path = dir.join(file::NAME);
        let mut begun = Begun {
            store: Self { path: path.clone(), file: None, writers: [writer; 2], holds: false, unfit: None },
            restored: None,
            notes: Vec::new(),
            unwritable: None,
        };
        let unwritable = &mut begun.unwritable;
        let opened = saver::quietly(|| open(&path, cluster, empty, unwritable));
        // redb panics where a file contradicts itself.
        let contradiction =
            || Ok(Opened::Unfit(Unfit::damaged(&FileError::Damaged(CONTRADICTION.to_owned()))));
        match opened.unwrap_or_else(contradiction)? {
            Opened::New(file) => begun.store.file = file,
            Opened::Saved(file, saved) => {
                begun.store.writers = [writer, saved.1.writer];
                begun.store.holds = true;
                begun.store.file = file;
                begun.restored = Some(*saved);
            }
            Opened::Unfit(unfit) => begun.start_anew(&unfit, now),
        }
        Ok(begun)
    }

    /// Writes a batch whole, or not at all; returns the file's size in bytes.
    ///
    /// # Errors
    /// If it can't be written now.
    pub fn write(&mut self, batch: &Batch, about: &About) -> Result<u64, FileError> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open_again(about)?,
        };
        // What failed once must be opened again: the file is put back only after success.
        file.write(batch, about, !self.holds)?;
        if file.len() == 0 {
            return Err(FileError::Damaged("it was removed".to_owned()));
        }
        self.holds = true;
        let compacted = file.compact();
        let bytes = file.len();
        if compacted.is_ok() {
            self.file = Some(file);
        }
        Ok(bytes)
    }

    /// The same store with its file closed.
    fn closed(&self) -> Self {
        Self { path: self.path.clone(), file: None, ..*self }
    }

    fn open_again(&mut self, about: &About) -> Result<StateFile, FileError> {
        if let Some(word) = self.unfit {
            file::move_aside(&self.path, word, Timestamp::parse(&about.saved_at).unwrap_or_default())?;
            self.unfit = None;
        }
        if let Some(dir) = self.path.parent() {
            let _ = fs::create_dir_all(dir);
        }
        let file = StateFile::open(&self.path)?;
        match file.about()? {
            Some(about) if !self.writers.contains(&about.writer) => Err(FileError::Taken),
            // Only what changed would go into it.
            None if self.holds => Err(FileError::Damaged("it was emptied".to_owned())),
            Some(_) | None => Ok(file),
        }
    }

    /// Moves a file aside that is no good any more, if it is still there, and returns its new name. All is to be
    /// written next.
    ///
    /// # Errors
    /// If it can't be moved.
    pub fn move_aside(&mut self, now: Timestamp) -> io::Result<Option<PathBuf>> {
        self.file = None;
        let aside = match file::move_aside(&self.path, "damaged", now) {
            Ok(aside) => Some(aside),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        self.holds = false;
        Ok(aside)
    }

    /// All is to be written next, in place of what the file holds.
    pub fn write_all_next(&mut self) {
        self.holds = false;
    }
}

impl Begun {
    fn start_anew(&mut self, unfit: &Unfit, now: Timestamp) {
        let Unfit { word, why } = unfit;
        match file::move_aside(&self.store.path, word, now) {
            Ok(aside) => {
                let note = format!(
                    "the saved state {why}: it is kept as {}, and counting starts anew",
                    aside.display()
                );
                self.notes.push(note);
                match StateFile::open(&self.store.path) {
                    Ok(file) => self.store.file = Some(file),
                    Err(error) => self.unwritable = Some(error),
                }
            }
            Err(error) => {
                self.notes.push(format!("the saved state {why}, and counting starts anew"));
                self.store.unfit = Some(word);
                self.unwritable = Some(error.into());
            }
        }
    }
}

fn open(
    path: &Path,
    cluster: Option<&str>,
    empty: impl Fn() -> Kept,
    unwritable: &mut Option<FileError>,
) -> Result<Opened, FileError> {
    let is_new = match fs::metadata(path) {
        // A directory may have no length either.
        Ok(metadata) => metadata.is_file() && metadata.len() == 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error.into()),
    };
    let (file, writable) = match StateFile::open(path) {
        Ok(file) => (file, true),
        Err(FileError::Damaged(why)) => return Ok(Opened::Unfit(Unfit::damaged(&FileError::Damaged(why)))),
        Err(FileError::Io(error)) => {
            *unwritable = Some(error.into());
            if is_new {
                return Ok(Opened::New(None));
            }
            match StateFile::open_copy(path) {
                Ok(copy) => (copy, false),
                Err(error @ FileError::Damaged(_)) => return Ok(Opened::Unfit(Unfit::damaged(&error))),
                Err(error) => return Err(error),
            }
        }
        Err(error) => return Err(error),
    };
    Ok(match read(&file, cluster, empty()) {
        Ok(None) => Opened::New(writable.then_some(file)),
        Ok(Some(saved)) => Opened::Saved(writable.then_some(file), Box::new(saved)),
        Err(unfit) => Opened::Unfit(unfit),
    })
}

fn read(file: &StateFile, cluster: Option<&str>, mut kept: Kept) -> Result<Option<(Kept, About)>, Unfit> {
    let damaged = |error: FileError| Unfit::damaged(&error);
    let Some(about) = file.about().map_err(damaged)? else { return Ok(None) };
    if about.form != FORM {
        let why = format!("has form {}, and this version reads form {FORM}", about.form);
        return Err(Unfit { word: "other-version", why });
    }
    if let (Some(cluster), Some(saved)) = (cluster, about.cluster.as_deref())
        && cluster != saved
    {
        return Err(Unfit { word: "other-cluster", why: "is that of another cluster".to_owned() });
    }
    file.rows(|row| kept.restore(&row)).map_err(damaged)?;
    Ok(Some((kept, about)))
}

#[cfg(test)]
mod tests;
