use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use napi::bindgen_prelude::Buffer;
use napi_derive::napi;
use nono_snapshot as snapshot;

pub(crate) fn path(bytes: Buffer) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

pub(crate) fn paths(list: Vec<Buffer>) -> Vec<PathBuf> {
    list.into_iter().map(path).collect()
}

pub(crate) fn bytes(path: PathBuf) -> Buffer {
    path.into_os_string().into_vec().into()
}

#[napi(object)]
pub struct Info {
    pub id: String,
    pub created_ms: f64,
    pub state: String,
    pub strategy: String,
    pub reason: String,
    pub dirs: Vec<Buffer>,
    pub mounts: Vec<MountInfo>,
}

impl From<&snapshot::Checkpoint> for Info {
    fn from(checkpoint: &snapshot::Checkpoint) -> Self {
        let (strategy, reason) = checkpoint.strategy();
        Self {
            id: checkpoint.id().to_owned(),
            created_ms: checkpoint.created() as f64,
            state: checkpoint.state().name().to_owned(),
            strategy: strategy.to_owned(),
            reason: reason.to_owned(),
            dirs: checkpoint.dirs().map(|dir| bytes(dir.to_owned())).collect(),
            mounts: checkpoint.mounts().into_iter().map(MountInfo::from).collect(),
        }
    }
}

#[napi(object)]
pub struct FileState {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: f64,
    pub mtime_ms: f64,
}

impl From<snapshot::Meta> for FileState {
    fn from(meta: snapshot::Meta) -> Self {
        let snapshot::Time { seconds, nanoseconds } = meta.mtime;
        Self {
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            size: meta.size as f64,
            mtime_ms: seconds as f64 * 1e3 + f64::from(nanoseconds) / 1e6,
        }
    }
}

#[napi(object)]
pub struct Change {
    pub dir: Buffer,
    pub path: Buffer,
    #[napi(
        ts_type = "\"added\" | \"modified\" | \"deleted\" | \"renamed\" | \"mode\" | \"owner\" | \"xattr\" | \"times\""
    )]
    pub kind: String,
    pub from: Option<Buffer>,
    pub before: Option<FileState>,
    pub after: Option<FileState>,
    pub before_file: Option<Buffer>,
    pub after_file: Option<Buffer>,
}

impl From<snapshot::Change> for Change {
    fn from(change: snapshot::Change) -> Self {
        use snapshot::ChangeKind::{Added, Deleted, Mode, Modified, Owner, Renamed, Times, Xattr};
        let kind = match change.kind {
            Added => "added",
            Modified => "modified",
            Deleted => "deleted",
            Renamed => "renamed",
            Mode => "mode",
            Owner => "owner",
            Xattr => "xattr",
            Times => "times",
        };
        Self {
            dir: bytes(change.dir),
            path: bytes(change.path),
            kind: kind.to_owned(),
            from: change.from.map(bytes),
            before: change.before.map(FileState::from),
            after: change.after.map(FileState::from),
            before_file: change.before_file.map(bytes),
            after_file: change.after_file.map(bytes),
        }
    }
}

#[napi(object)]
pub struct Holder {
    pub pid: i32,
    pub command: String,
    pub path: Buffer,
    pub directory: bool,
}

impl From<snapshot::Holder> for Holder {
    fn from(holder: snapshot::Holder) -> Self {
        let snapshot::Holder { pid, command, path, directory } = holder;
        Self { pid, command, path: bytes(path), directory }
    }
}

#[napi(object)]
pub struct MountInfo {
    pub target: Buffer,
    pub lower: Buffer,
    pub upper: Buffer,
    pub work: Buffer,
}

impl From<snapshot::Mount> for MountInfo {
    fn from(mount: snapshot::Mount) -> Self {
        let snapshot::Mount { target, lower, upper, work } = mount;
        Self { target: bytes(target), lower: bytes(lower), upper: bytes(upper), work: bytes(work) }
    }
}

#[napi(object)]
pub struct Summary {
    pub id: String,
    pub created_ms: f64,
    pub state: String,
    pub strategy: String,
    pub dirs: Vec<Buffer>,
    pub complete: bool,
    pub unfinished: bool,
}

impl From<snapshot::Summary> for Summary {
    fn from(summary: snapshot::Summary) -> Self {
        Self {
            id: summary.id,
            created_ms: summary.created as f64,
            state: summary.state.name().to_owned(),
            strategy: summary.strategy,
            dirs: summary.dirs.into_iter().map(bytes).collect(),
            complete: summary.complete,
            unfinished: summary.unfinished,
        }
    }
}

#[napi(object)]
pub struct Recovered {
    pub finished: Vec<String>,
    pub removed: Vec<String>,
    pub busy: Vec<String>,
}

impl From<snapshot::Recovered> for Recovered {
    fn from(recovered: snapshot::Recovered) -> Self {
        let snapshot::Recovered { finished, removed, busy } = recovered;
        Self { finished, removed, busy }
    }
}

#[napi(object)]
pub struct Diff {
    #[napi(ts_type = "\"text\" | \"binary\" | \"too-large\"")]
    pub kind: String,
    pub text: Option<String>,
}

impl From<snapshot::FileDiff> for Diff {
    fn from(diff: snapshot::FileDiff) -> Self {
        let (kind, text) = match diff {
            snapshot::FileDiff::Text(text) => ("text", Some(text)),
            snapshot::FileDiff::Binary => ("binary", None),
            snapshot::FileDiff::TooLarge => ("too-large", None),
        };
        Self { kind: kind.to_owned(), text }
    }
}
