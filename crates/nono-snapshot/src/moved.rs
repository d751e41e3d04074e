//! What a copy has missed because it moved meanwhile: from where the copy had not been yet to where it had
//! been already. It is in neither, and a rollback would delete the only one there is.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::exclude::Exclude;
use crate::manifest::{Entry, Manifest};
use crate::meta::{Stat, Time, stat_at};
use crate::walk::{names, open_beneath, open_directory};

/// Refuses `dir` when a directory in it has by now got an entry that existed before the copy began and is
/// not on its `list`.
pub(crate) fn refuse_moved(
    dir: &Path,
    list: &Manifest,
    exclude: &Exclude,
    began: Time,
) -> Result<()> {
    let root = open_directory(dir)?;
    let look = || {
        let changed = changed(&root, list, exclude, began)?;
        changed.map_err(|found| Error::Changing(dir.join(found)))
    };
    let mut seen = look()?;
    for _ in 0..5 {
        let again = if seen.is_empty() { Vec::new() } else { look()? };
        // Between the two looks all directories were at the same time as they were seen.
        if again == seen {
            return Ok(());
        }
        seen = again;
    }
    let path = seen.into_iter().next().map(|(path, _)| path);
    Err(Error::Changing(dir.join(path.unwrap_or_default())))
}

/// The directories that have changed since they were copied, and when; or what has come from elsewhere.
fn changed(
    root: &OwnedFd,
    list: &Manifest,
    exclude: &Exclude,
    began: Time,
) -> Result<Result<Vec<(PathBuf, Time)>, PathBuf>> {
    let (mut changed, mut found) = (Vec::new(), Ok(None));
    let mut look = |path: &Path, entry| {
        if !list.meta(entry).is_dir() || !matches!(found, Ok(None)) {
            return;
        }
        let (was, Ok(Stat { meta: is, .. })) = (list.meta(entry), stat_at(root, path.as_os_str()))
        else {
            return; // It may have gone elsewhere by now: then it is found there.
        };
        // What changed in the clock tick in which the copy began may have changed again.
        if was.same_condition(&is) && was.was_settled(began) {
            return;
        }
        changed.push((path.to_owned(), is.ctime));
        found = arrived(root, path, (list, entry), exclude, began);
    };
    look(Path::new(""), Manifest::ROOT);
    list.each(Manifest::ROOT, Path::new(""), &mut look);
    Ok(found?.map_or(Ok(changed), Err))
}

/// What has come from elsewhere to one directory, or to one that was made in it since.
fn arrived(
    root: &OwnedFd,
    path: &Path,
    (list, entry): (&Manifest, Entry),
    exclude: &Exclude,
    began: Time,
) -> Result<Option<PathBuf>> {
    let mut pending = vec![(path.to_owned(), Some(entry))];
    while let Some((path, entry)) = pending.pop() {
        let Ok(dir) = open_beneath(root, &path) else { continue };
        for name in names(&dir, || path.clone())? {
            let (path, Ok(Stat { meta: is, .. })) = (path.join(&name), stat_at(&dir, &name)) else {
                continue;
            };
            let listed = entry.and_then(|entry| list.child(entry, &name));
            let is_copied = listed.is_some_and(|listed| list.meta(listed).ino == is.ino);
            if is_copied || exclude.covers(&path, is.is_dir()) {
                continue;
            }
            if is.btime < began {
                return Ok(Some(path));
            }
            if is.is_dir() {
                pending.push((path, None));
            }
        }
    }
    Ok(None)
}
