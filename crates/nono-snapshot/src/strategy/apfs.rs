//! APFS clones: one `clonefile(2)` shares the blocks of a whole directory.
//!
//! The function is looked up at run time, so that this module type-checks and its refusal is tested
//! on every platform. The exchange of a rollback is `renameatx_np(RENAME_SWAP)` there, which is what
//! rustix makes of `RENAME_EXCHANGE`.

use std::ffi::{CString, c_char, c_int};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::copy::{Copy, commit, rollback};
use super::{Placement, Strategy, tree};
use crate::changes::Change;
use crate::copy::Contents;
use crate::error::{Context, Error, Result};
use crate::exclude::Exclude;
use crate::excluded;
use crate::fault;
use crate::select::Selection;
use crate::step::Step;
use crate::walk::scan;

/// A clone of the directory.
pub(crate) struct Apfs;

/// `int clonefile(const char *src, const char *dst, uint32_t flags)`
type CloneFile = unsafe extern "C" fn(*const c_char, *const c_char, u32) -> c_int;

/// `CLONE_NOFOLLOW | CLONE_ACL` of sys/clonefile.h
const FLAGS: u32 = 1 | 4;

fn clonefile() -> Option<CloneFile> {
    // SAFETY: both strings end with NUL; dlsym only looks the name up.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"clonefile".as_ptr()) };
    // SAFETY: where the symbol exists, it has this type (clonefile(2) of macOS 10.12 and later).
    (!symbol.is_null())
        .then(|| unsafe { std::mem::transmute::<*mut libc::c_void, CloneFile>(symbol) })
}

fn clone(source: &Path, target: &Path) -> io::Result<()> {
    let clonefile = clonefile().ok_or(io::ErrorKind::Unsupported)?;
    let [source, target] = [source, target].map(|path| CString::new(path.as_os_str().as_bytes()));
    // SAFETY: both are strings that end with NUL and live across the call.
    match unsafe { clonefile(source?.as_ptr(), target?.as_ptr(), FLAGS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Strategy for Apfs {
    fn name(&self) -> &'static str {
        "apfs"
    }

    fn concerns(&self, _: &Path) -> bool {
        clonefile().is_some()
    }

    fn fits(&self, placement: &Placement) -> std::result::Result<String, String> {
        if clonefile().is_none() {
            return Err("this system has no clonefile".to_owned());
        }
        tree::replaceable(placement)?;
        let (probe, copy) = (placement.vault.join("probe-1"), placement.vault.join("probe-2"));
        let cloned = std::fs::write(&probe, b"probe").and_then(|()| clone(&probe, &copy));
        for path in [probe, copy] {
            // It need not exist: the first step may be the one that failed.
            let _ = std::fs::remove_file(path);
        }
        cloned
            .map(|()| "it can be cloned".to_owned())
            .map_err(|error| format!("it can't be cloned ({error})"))
    }

    fn begin(&self, placement: &Placement, exclude: &Exclude) -> Result<()> {
        let partial = placement.partial();
        let list = scan(&placement.dir, exclude)?;
        fault::point("clone").context("clone", &placement.dir)?;
        clone(&placement.dir, &partial).context("clone", &placement.dir)?;
        // clonefile is not atomic for a directory: what changed meanwhile may be there half.
        if let Some(path) = list.first_difference(&scan(&placement.dir, exclude)?) {
            return Err(Error::Changing(placement.dir.join(path)));
        }
        excluded::remove(&partial, &scan(&partial, exclude)?)?;
        let path = placement.manifest();
        std::fs::write(&path, list.encode()).context("write", &path)?;
        std::fs::rename(&partial, placement.tree()).context("name", &partial)
    }

    fn changes(&self, placement: &Placement, exclude: &Exclude) -> Result<Vec<Change>> {
        Copy.changes(placement, exclude)
    }

    fn rollback(
        &self,
        placement: &Placement,
        exclude: &Exclude,
        select: &Selection,
    ) -> Result<Vec<Step>> {
        rollback(placement, exclude, select, Contents::Bytes)
    }

    fn commit(
        &self,
        placement: &Placement,
        exclude: &Exclude,
        select: &Selection,
    ) -> Result<Vec<Step>> {
        commit(placement, exclude, select, Contents::Bytes)
    }

    fn discard(&self, placement: &Placement) -> Result<()> {
        Copy.discard(placement)
    }
}
