//! The file: opening, reading and writing it, and what to do with one that is no good.
//!
//! Two-phase commits: after a crash the file holds the last batch that was written whole, never the one before it,
//! whose counters would be lower than what was shown.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, StorageError,
    TableDefinition, TableError,
};

use super::about::About;
use super::fault;
use super::saver::quietly;
use crate::rows::{Batch, Row, Unreadable};
use crate::time::Timestamp;

/// The name of the file in the directory.
pub const NAME: &str = "state.redb";
/// What redb may keep of the file in memory.
const CACHE: usize = 4 << 20;
/// A smaller file is never compacted.
const SMALL: u64 = if OFTEN { 1 } else { 16 << 20 };
/// A larger one is when so much of it is free, which is asked once in so many writes: the answer takes a walk
/// through the whole file.
const FREE: u64 = if OFTEN { 1 } else { 3 };
const ASK_EVERY: u32 = if OFTEN { 3 } else { 3_600 };
/// Tests that end the process while the file is compacted can't wait until it needs that.
const OFTEN: bool = cfg!(feature = "fault-points");
/// The largest file that is read into memory when it can't be written.
const LARGEST_COPY: u64 = 1 << 30;

const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
const ABOUT: TableDefinition<&str, &str> = TableDefinition::new("about");

/// Why a file could not be used now.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Another process has it.
    #[error("another process has it open")]
    Held,
    /// It is no good, and never will be.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The disk or the system says no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Someone else wrote to it since.
    #[error("another exporter has written to it")]
    Taken,
}

impl FileError {
    const CLOSED: Self = Self::Taken;
}

/// What can't be the file's fault but the disk's, or the other way round.
fn sort(error: StorageError) -> FileError {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error {
        StorageError::Io(error) if matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof) => {
            FileError::Damaged(error.to_string())
        }
        StorageError::Io(error) => FileError::Io(error),
        StorageError::PreviousIo => FileError::Io(io::Error::other("an earlier write failed")),
        other => FileError::Damaged(other.to_string()),
    }
}

impl From<StorageError> for FileError {
    fn from(error: StorageError) -> Self {
        sort(error)
    }
}

impl From<DatabaseError> for FileError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::Held,
            DatabaseError::Storage(error) => sort(error),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// redb's other errors: what storage says, or what can only be the file's fault.
macro_rules! from_redb {
    ($($error:ident)*) => {$(
        impl From<redb::$error> for FileError {
            fn from(error: redb::$error) -> Self {
                match error {
                    redb::$error::Storage(error) => sort(error),
                    other => Self::Damaged(other.to_string()),
                }
            }
        }
    )*};
}

from_redb!(TransactionError TableError CommitError CompactionError);

impl From<Unreadable> for FileError {
    fn from(error: Unreadable) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// The disk as redb sees it.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    path: PathBuf,
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fault::check(&self.path)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        fault::check(&self.path)?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        fault::check(&self.path)?;
        if let Some(torn) = fault::torn(data.len()) {
            self.file.write(offset, data.get(..torn).unwrap_or(data))?;
            std::process::abort();
        }
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// An open file.
#[derive(Debug)]
pub struct StateFile {
    /// `None` only while it is dropped.
    database: Option<Database>,
    path: PathBuf,
    /// Writes since it was opened.
    writes: u32,
}

impl StateFile {
    /// Opens the file, making it if it is not there, and checks all of it.
    ///
    /// # Errors
    /// If it is held, damaged, or can't be read and written.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        fault::check(path)?;
        // Termination messages may hold anything: nobody else may read them.
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let disk = Disk { file: FileBackend::new(file)?, path: path.to_owned() };
        Self::on(disk, path)
    }

    /// Opens a copy of the file in memory: for one that can be read but not written.
    ///
    /// # Errors
    /// If it is held, damaged, or can't be read.
    pub fn open_copy(path: &Path) -> Result<Self, FileError> {
        let file = File::open(path)?;
        match file.try_lock_shared() {
            Err(fs::TryLockError::WouldBlock) => return Err(FileError::Held),
            Ok(()) | Err(fs::TryLockError::Error(_)) => {}
        }
        if file.metadata()?.len() > LARGEST_COPY {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge).into());
        }
        let copy = redb::backends::InMemoryBackend::new();
        let bytes = fs::read(path)?;
        copy.set_len(bytes.len() as u64)?;
        copy.write(0, &bytes)?;
        drop(bytes);
        Self::on(copy, path)
    }

    /// Checks all checksums. That something was put right (which pages are free, after a crash) is no damage: what
    /// could not be is an error.
    fn on(backend: impl StorageBackend, path: &Path) -> Result<Self, FileError> {
        let mut database = Builder::new().set_cache_size(CACHE).create_with_backend(backend)?;
        let _as_it_was = database.check_integrity()?;
        Ok(Self { database: Some(database), path: path.to_owned(), writes: 0 })
    }

    /// What the file says about itself; `None` for a new one.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn about(&self) -> Result<Option<About>, FileError> {
        let read = self.database()?.begin_read()?;
        let table = match read.open_table(ABOUT) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(text) = table.get("about")? else { return Ok(None) };
        About::parse(text.value()).map(Some).map_err(FileError::Damaged)
    }

    /// Hands every row to `take`.
    ///
    /// # Errors
    /// If one can't be read.
    pub fn rows(&self, mut take: impl FnMut(Row<'_>) -> Result<(), Unreadable>) -> Result<(), FileError> {
        let read = self.database()?.begin_read()?;
        let table = match read.open_table(ROWS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for row in table.iter()? {
            let (key, value) = row?;
            take(Row::new(key.value(), value.value())?)?;
        }
        Ok(())
    }

    /// Writes a batch whole, or not at all; in place of all rows if it is `everything`.
    ///
    /// # Errors
    /// If the disk fails. The file must be opened again then.
    pub fn write(&mut self, batch: &Batch, about: &About, everything: bool) -> Result<(), FileError> {
        fault::point("before-write");
        let mut transaction = self.database()?.begin_write()?;
        transaction.set_two_phase_commit(true);
        if everything {
            transaction.delete_table(ROWS)?;
        }
        {
            let mut rows = transaction.open_table(ROWS)?;
            for (number, (key, value)) in batch.rows().enumerate() {
                if number == batch.len() / 2 {
                    fault::point("during-write");
                }
                match value {
                    Some(value) => drop(rows.insert(key, value)?),
                    None => drop(rows.remove(key)?),
                }
            }
            transaction.open_table(ABOUT)?.insert("about", about.text().as_str())?;
        }
        fault::point("before-commit");
        transaction.commit()?;
        fault::point("after-commit");
        Ok(())
    }

    /// Gives back what the file does not need any more, once that is most of it.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn compact(&mut self) -> Result<(), FileError> {
        let due = self.writes.is_multiple_of(ASK_EVERY) && length(&self.path) >= SMALL;
        self.writes = self.writes.wrapping_add(1);
        if due && length(&self.path) >= FREE * self.used()? {
            fault::point("before-compaction");
            self.database.as_mut().ok_or(FileError::CLOSED)?.compact()?;
        }
        Ok(())
    }

    /// How many bytes of the file are in use.
    fn used(&self) -> Result<u64, FileError> {
        let transaction = self.database()?.begin_write()?;
        let stats = transaction.stats()?;
        transaction.abort()?;
        Ok(stats.allocated_pages() * stats.page_size() as u64)
    }

    fn database(&self) -> Result<&Database, FileError> {
        self.database.as_ref().ok_or(FileError::CLOSED)
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        length(&self.path)
    }
}

/// redb writes once more when it closes, and panics where the file contradicts itself.
impl Drop for StateFile {
    fn drop(&mut self) {
        let database = self.database.take();
        let _ = quietly(|| drop(database));
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Moves a file aside under a name that is free, and returns that name.
///
/// # Errors
/// If it can't be moved.
pub fn move_aside(path: &Path, why: &str, now: Timestamp) -> io::Result<PathBuf> {
    let seconds = now.0.div_euclid(1000);
    for number in 0..100 {
        let aside = path.with_file_name(match number {
            0 => format!("{NAME}.{why}-{seconds}"),
            _ => format!("{NAME}.{why}-{seconds}-{number}"),
        });
        if !aside.try_exists()? {
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
