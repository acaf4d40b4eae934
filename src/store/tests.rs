use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::*;
use crate::core::{Effect, Input, Options, Scope};
use crate::pod::Pod;
use crate::publish::tests::termination;
use crate::series::SeriesOptions;
use fault::disk;

/// A directory of a test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("exitcode-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Self(dir)
    }

    fn file(&self) -> PathBuf {
        self.0.join(file::NAME)
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        disk::fail(&self.file(), None);
        let _ = fs::remove_dir_all(&self.0);
    }
}

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const CLUSTER: &str = "cluster-a";

fn empty() -> Kept {
    Kept {
        state: State::new(Options { scopes: 1, ..Options::default() }),
        series: Series::new(SeriesOptions::default()),
        board: Board::default(),
    }
}

fn about(writer: u64) -> About {
    About { form: FORM, writer, cluster: Some(CLUSTER.to_owned()), ..About::default() }
}

fn begin(folder: &Folder, writer: u64) -> Begun {
    Store::begin(&folder.0, writer, Some(CLUSTER), empty, NOW).unwrap()
}

type Damage = dyn Fn(&Folder);

/// What is kept, with so many workloads that each ended once.
fn filled(workloads: u32) -> (Kept, Batch) {
    let mut kept = empty();
    kept.series.track();
    kept.board.track();
    for number in 0..workloads {
        let effect = Effect::Terminated(Box::new(termination(&format!("web-{number}"))));
        kept.series.apply(&effect, NOW);
        kept.board.add(termination(&format!("web-{number}")));
    }
    let mut batch = Batch::default();
    kept.series.save(&mut batch);
    kept.board.save(&mut batch);
    (kept, batch)
}

fn counted(series: &Series) -> u64 {
    series.terminations().map(|(_, sample)| sample.value).sum()
}

/// A file that holds ten terminations.
fn saved(name: &str) -> Folder {
    let folder = Folder::new(name);
    let mut begun = begin(&folder, 1);
    assert!(begun.restored.is_none() && begun.unwritable.is_none());
    begun.store.write(&filled(10).1, &about(1)).unwrap();
    folder
}

/// Goes on from the file as a new process would, and tells what it counted.
fn resumed(folder: &Folder, writer: u64) -> (Begun, u64) {
    let mut begun = begin(folder, writer);
    let count = begun.restored.as_mut().map_or(0, |(kept, _)| {
        kept.series.resume(NOW);
        counted(&kept.series)
    });
    (begun, count)
}

#[test]
fn what_was_saved_is_there_after_a_start_and_nobody_else_can_read_it() {
    let folder = saved("resume");
    let (begun, count) = resumed(&folder, 2);
    let (kept, about) = begun.restored.unwrap();
    assert_eq!((count, kept.board.len(), about.writer), (10, 10, 1));
    assert_eq!(kept.series.len(), 10 * 3 + 1, "terminations, last terminations and pods; a node");
    assert_eq!(folder.names(), [file::NAME]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(folder.file()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_unreadable_file_is_moved_aside_and_counting_starts_anew() {
    let cut = |folder: &Folder| {
        let length = fs::metadata(folder.file()).unwrap().len();
        OpenOptions::new().write(true).open(folder.file()).unwrap().set_len(length / 2).unwrap();
    };
    let short = |folder: &Folder| fs::write(folder.file(), "short").unwrap();
    let nonsense = |folder: &Folder| fs::write(folder.file(), vec![0xa5_u8; 300_000]).unwrap();
    let zeros = |folder: &Folder| fs::write(folder.file(), vec![0_u8; 300_000]).unwrap();
    let head = |folder: &Folder| {
        OpenOptions::new().write(true).open(folder.file()).unwrap().write_all_at(&[0xff; 16], 12).unwrap();
    };
    let cases: [(_, &Damage); 5] =
        [("cut", &cut), ("short", &short), ("nonsense", &nonsense), ("zeros", &zeros), ("head", &head)];
    for (name, damage) in cases {
        let folder = saved(name);
        damage(&folder);
        let before = fs::read(folder.file()).unwrap();
        let (mut begun, count) = resumed(&folder, 2);
        assert_eq!((count, begun.restored.is_some(), begun.notes.len()), (0, false, 1), "{name}");
        let aside = format!("{}.damaged-1800000000", file::NAME);
        assert!(begun.notes[0].starts_with("the saved state cannot be read (it is damaged: "), "{name}");
        assert!(begun.notes[0].ends_with(", and counting starts anew"), "{name}: {}", begun.notes[0]);
        assert_eq!(begun.notes[0].lines().count(), 1, "{name}");
        assert_eq!(folder.names(), [file::NAME, &aside], "{name}");
        if name != "head" {
            assert!(fs::read(folder.0.join(&aside)).unwrap() == before, "{name}: kept as it was");
        }
        begun.store.write(&filled(3).1, &about(2)).unwrap();
        drop(begun);
        assert_eq!(resumed(&folder, 3).1, 3, "{name}");
    }
}

/// A bit that flips anywhere in the file is either of no account or noticed: never a wrong count, never a panic.
#[test]
fn a_flipped_bit_never_changes_a_count() {
    let folder = saved("flips");
    let whole = fs::read(folder.file()).unwrap();
    let mut noticed = 0;
    let mut random = fastrand::Rng::with_seed(7);
    // Every byte of the head, and pages at random.
    let places = (0..320).chain((0..130).map(|_| random.usize(..whole.len())));
    for place in places {
        let mut flipped = whole.clone();
        flipped[place] ^= 1 << (place % 8);
        fs::write(folder.file(), &flipped).unwrap();
        let (begun, count) = resumed(&folder, 2);
        match &begun.restored {
            Some(_) => assert_eq!(count, 10, "byte {place}"),
            None => noticed += 1,
        }
        drop(begun);
        for name in folder.names() {
            fs::remove_file(folder.0.join(name)).unwrap();
        }
    }
    assert!(noticed > 20, "{noticed}");
}

#[test]
fn the_state_of_another_cluster_or_form_is_kept_and_not_gone_on_from() {
    for (name, about, aside, why) in [
        (
            "other",
            About { cluster: Some("cluster-b".to_owned()), ..about(1) },
            "other-cluster",
            "is that of another cluster",
        ),
        ("form", About { form: 7, ..about(1) }, "other-version", "has form 7, and this version reads form 1"),
    ] {
        let folder = Folder::new(name);
        begin(&folder, 1).store.write(&filled(10).1, &about).unwrap();
        let (begun, count) = resumed(&folder, 2);
        let aside = folder.0.join(format!("{}.{aside}-1800000000", file::NAME));
        assert_eq!(count, 0);
        assert_eq!(
            begun.notes,
            [format!("the saved state {why}: it is kept as {}, and counting starts anew", aside.display())]
        );
        assert!(aside.exists());
    }
}

#[test]
fn a_cluster_that_could_not_be_told_is_no_reason_to_start_anew() {
    let folder = Folder::new("unknown-cluster");
    begin(&folder, 1).store.write(&filled(10).1, &About { cluster: None, ..about(1) }).unwrap();
    assert_eq!(resumed(&folder, 2).1, 10);
    let folder = saved("cannot-ask");
    let begun = Store::begin(&folder.0, 2, None, empty, NOW).unwrap();
    assert!(begun.restored.is_some());
}

#[test]
fn a_file_that_another_process_holds_is_waited_for() {
    let folder = saved("held");
    let holder = begin(&folder, 2);
    let held = Store::begin(&folder.0, 3, Some(CLUSTER), empty, NOW);
    assert!(matches!(held, Err(FileError::Held)), "{held:?}");
    drop(holder);
    assert_eq!(resumed(&folder, 3).1, 10);
}

#[test]
fn a_file_that_can_be_read_but_not_written_is_gone_on_from() {
    for kind in [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied] {
        let folder = saved("unwritable");
        disk::fail(&folder.file(), Some(kind));
        let (mut begun, count) = resumed(&folder, 2);
        assert_eq!((count, begun.notes.len()), (10, 0));
        assert!(matches!(&begun.unwritable, Some(FileError::Io(error)) if error.kind() == kind));
        let later = filled(12).1;
        assert!(matches!(begun.store.write(&later, &about(2)), Err(FileError::Io(_))));
        disk::fail(&folder.file(), None);
        begun.store.write(&later, &about(2)).unwrap();
        drop(begun);
        assert_eq!(resumed(&folder, 3).1, 12);
    }
}

#[test]
fn a_disk_that_is_full_for_a_while_loses_nothing() {
    let folder = saved("full");
    let (mut begun, _) = resumed(&folder, 2);
    for number in 11..20 {
        disk::fail(&folder.file(), Some(ErrorKind::StorageFull));
        let batch = filled(number).1;
        assert!(matches!(begun.store.write(&batch, &about(2)), Err(FileError::Io(_))));
        disk::fail(&folder.file(), None);
        begun.store.write(&batch, &about(2)).unwrap();
    }
    drop(begun);
    assert_eq!(resumed(&folder, 3).1, 19);
}

#[test]
fn a_process_that_ends_in_the_middle_of_a_save_leaves_the_counts_of_before_or_after_it() {
    let batch = filled(2_000).1;
    let (mut writes, mut is_saved) = (0, false);
    while !is_saved {
        let folder = saved("ends");
        let mut begun = begin(&folder, 2);
        disk::end_after(&folder.file(), writes);
        is_saved = begun.store.write(&batch, &about(2)).is_ok();
        drop(begun);
        disk::fail(&folder.file(), None);
        let (begun, count) = resumed(&folder, 3);
        assert_eq!(begun.notes, [""; 0], "after {writes} writes");
        assert!(count == 2_000 || (!is_saved && count == 10), "{count} counted, after {writes} writes");
        writes += 1 + writes / 4;
    }
    assert!(writes > 100, "{writes} writes");
}

#[test]
fn a_directory_that_cannot_be_made_is_a_reason_and_no_end() {
    let folder = Folder::new("file-in-the-way");
    fs::write(&folder.0, "a file").unwrap();
    let begun = Store::begin(&folder.0.join("state"), 1, Some(CLUSTER), empty, NOW);
    assert!(matches!(begun, Err(FileError::Io(_))), "{begun:?}");
    fs::remove_file(&folder.0).unwrap();
}

#[test]
fn what_another_exporter_wrote_meanwhile_is_not_written_over() {
    let folder = saved("taken");
    let (mut begun, _) = resumed(&folder, 2);
    disk::fail(&folder.file(), Some(ErrorKind::StorageFull));
    assert!(begun.store.write(&filled(11).1, &about(2)).is_err());
    disk::fail(&folder.file(), None);
    // The file is closed now, and another takes it.
    let mut other = begin(&folder, 3);
    other.store.write(&filled(15).1, &about(3)).unwrap();
    assert!(matches!(begun.store.write(&filled(11).1, &about(2)), Err(FileError::Held)));
    drop(other);
    assert!(matches!(begun.store.write(&filled(11).1, &about(2)), Err(FileError::Taken)));
    assert_eq!(resumed(&folder, 4).1, 15);
}

/// Only what changed would be written into a new file, and all else pass for new at the next start.
#[test]
fn a_file_that_was_removed_is_written_whole_again() {
    let folder = saved("removed");
    let (mut begun, _) = resumed(&folder, 2);
    let lost = |store: &mut Store, why: &str, aside: bool| {
        let error = store.write(&filled(1).1, &about(2)).unwrap_err();
        assert_eq!(error.to_string(), format!("it is damaged: {why}"));
        assert_eq!(store.move_aside(NOW).unwrap().is_some(), aside);
        store.write(&filled(12).1, &about(2)).unwrap();
    };
    fs::remove_file(folder.file()).unwrap();
    lost(&mut begun.store, "it was removed", false);
    disk::fail(&folder.file(), Some(ErrorKind::StorageFull));
    assert!(begun.store.write(&filled(12).1, &about(2)).is_err());
    disk::fail(&folder.file(), None);
    fs::remove_file(folder.file()).unwrap();
    lost(&mut begun.store, "it was emptied", true);
    drop(begun);
    assert_eq!(resumed(&folder, 3).1, 12);
}

/// What is written in place of everything leaves nothing of what was there.
#[test]
fn all_can_be_written_anew_into_the_same_file() {
    let folder = saved("anew");
    let (mut begun, _) = resumed(&folder, 2);
    begun.store.write_all_next();
    begun.store.write(&filled(3).1, &about(2)).unwrap();
    drop(begun);
    assert_eq!(resumed(&folder, 3).1, 3);
}

/// What goes is given back: not at once, but after a start, and then once in an hour.
/// A file that is mostly free, as long as it is.
fn mostly_free(folder: &Folder) -> u64 {
    let large = |value: Option<&String>| {
        let mut batch = Batch::default();
        (0..80_000_u64).for_each(|number| batch.set(Table::Gone, &number, value));
        batch
    };
    let mut begun = begin(folder, 1);
    begun.store.write(&large(Some(&"x".repeat(300))), &about(1)).unwrap();
    begun.store.write(&large(None), &about(1)).unwrap();
    drop(begun);
    fs::metadata(folder.file()).unwrap().len()
}

#[test]
fn a_file_that_is_mostly_free_shrinks_and_is_whole_wherever_that_ends() {
    let folder = Folder::new("shrinks");
    let full = mostly_free(&folder);
    assert!(full > 24 << 20, "{full}");
    let image = Folder::new("ends-while-it-shrinks");
    fs::create_dir_all(&image.0).unwrap();
    let mut size = full;
    for writes in (0..50).chain([1_000]) {
        fs::copy(folder.file(), image.file()).unwrap();
        let mut begun = begin(&image, 2);
        disk::end_after(&image.file(), writes);
        let _ = begun.store.write(&filled(5).1, &about(2));
        drop(begun);
        disk::fail(&image.file(), None);
        let (begun, count) = resumed(&image, 3);
        assert_eq!(begun.notes, [""; 0], "after {writes} writes");
        assert!(count == 5 || (count == 0 && writes < 10), "{count} after {writes} writes");
        size = fs::metadata(image.file()).unwrap().len();
    }
    assert!(size < full / 4, "{size} of {full}");
}

/// Two pods, one of a Job and one that is gone, an end that waits, and an event about a pod and one about a node.
fn inputs() -> Vec<Input> {
    let pod = |uid: &str, state: serde_json::Value| {
        let pod = serde_json::json!({
            "metadata": {
                "name": uid, "namespace": "shop", "uid": uid, "resourceVersion": "1",
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j", "controller": true}],
            },
            "spec": {"nodeName": "node-1", "containers": [{"name": "app"}]},
            "status": {"containerStatuses": [
                {"name": "app", "restartCount": 1, "containerID": "c://2", "image": "i", "state": state},
            ]},
        });
        Box::new(serde_json::from_value::<Pod>(pod).unwrap())
    };
    let event = |kind: &str, reason: &str, uid: &str| {
        let event = serde_json::json!({
            "metadata": {"uid": reason},
            "involvedObject": {"kind": kind, "name": "node-1", "uid": uid, "fieldPath": "spec.containers{app}"},
            "reason": reason, "message": "Container app failed liveness probe",
            "lastTimestamp": "2026-01-02T03:05:05Z", "source": {"host": "node-1"},
        });
        Input::Event(Box::new(serde_json::from_value(event).unwrap()))
    };
    let running = serde_json::json!({"running": {"startedAt": "2026-01-02T03:04:05Z"}});
    let ended = serde_json::json!({"terminated": {
        "exitCode": 137, "reason": "Error", "containerID": "c://2",
        "startedAt": "2026-01-02T03:04:05Z", "finishedAt": "2026-01-02T03:05:05Z",
    }});
    let scope = Scope(0);
    vec![
        Input::ListBegins(scope),
        Input::Listed { scope, whole: true },
        event("Node", "SystemOOM", ""),
        event("Pod", "Killing", "a"),
        Input::PodSeen(scope, pod("b", running.clone())),
        Input::PodDeleted(scope, pod("b", running)),
        Input::PodSeen(scope, pod("a", ended)),
    ]
}

/// Any change to what is saved changes these bytes: then raise [`FORM`], and say in the change log that counts begin
/// anew with the upgrade.
#[test]
fn the_saved_form_is_this_one() {
    let (mut kept, mut batch) = filled(1);
    kept.state.track();
    for input in inputs() {
        kept.state.apply(input, NOW);
    }
    kept.state.save(&mut batch);
    let tables: std::collections::BTreeSet<u8> = batch.rows().map(|(key, _)| key[0]).collect();
    assert_eq!(tables.len(), 17 - 4, "all tables but climbed, histories, failures and restarts");
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let bytes = batch.rows().flat_map(|(key, value)| key.iter().chain(value.unwrap_or_default()));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, fnv);
    assert_eq!((FORM, batch.len(), hash), (1, 16, 6_503_435_196_494_549_986));
}
