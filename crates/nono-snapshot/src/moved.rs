//! What a copy has missed because it moved meanwhile: from where the copy had not been yet to where it had
//! been already. It is in neither, and a rollback would delete the only one there is.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::beneath::Beneath;
use crate::error::{Error, Result};
use crate::exclude::Exclude;
use crate::manifest::Manifest;
use crate::meta::{Stat, Time, stat_at};
use crate::walk::{names, open_directory, split};

/// Refuses `dir` when a directory in it has by now got an entry that existed before the copy began and is
/// not on its `list`.
pub(crate) fn refuse_moved(
    dir: &Path,
    list: &Manifest,
    exclude: &Exclude,
    began: Time,
) -> Result<()> {
    let root = Beneath::new(open_directory(dir)?);
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
    root: &Beneath,
    list: &Manifest,
    exclude: &Exclude,
    began: Time,
) -> Result<Result<Vec<(PathBuf, Time)>, PathBuf>> {
    let mut changed = Vec::new();
    let mut look = |path: &Path, entry| {
        let was = list.meta(entry);
        if !was.is_dir() {
            return;
        }
        // It may have gone elsewhere by now: then it is found there.
        let (parent, name) = split(path);
        let found = root.open(parent).and_then(|dir| stat_at(&dir, name));
        let Ok(Stat { meta: is, .. }) = found else { return };
        // What changed in the clock tick in which the copy began may have changed again.
        if !was.same_condition(&is) || !was.was_settled(began) {
            changed.push((path.to_owned(), is.ctime));
        }
    };
    look(Path::new(""), Manifest::ROOT);
    list.each(Manifest::ROOT, Path::new(""), &mut look);
    let found = arrived(root, &changed, list, exclude, began)?;
    Ok(found.map_or(Ok(changed), Err))
}

/// What is in these directories, or in one that has come to them since, and is not on the list.
fn arrived(
    root: &Beneath,
    changed: &[(PathBuf, Time)],
    list: &Manifest,
    exclude: &Exclude,
    began: Time,
) -> Result<Option<PathBuf>> {
    if changed.is_empty() {
        return Ok(None);
    }
    let mut copied = HashSet::from([list.meta(Manifest::ROOT).ino]);
    list.each(Manifest::ROOT, Path::new(""), &mut |_, entry| {
        copied.insert(list.meta(entry).ino);
    });
    // What was born in the future was so before a clock was set back.
    let existed = |birth: Time| birth < began || birth > Time::now_exactly();
    let mut pending: Vec<PathBuf> = changed.iter().map(|(path, _)| path.clone()).collect();
    while let Some(path) = pending.pop() {
        let Ok(dir) = root.anew(&path) else { continue };
        for name in names(&dir, || path.clone())? {
            let path = path.join(&name);
            let Ok(Stat { meta: is, .. }) = stat_at(&dir, &name) else { continue };
            if exclude.covers(&path, is.is_dir()) {
                continue;
            }
            if !copied.contains(&is.ino) && existed(is.btime) {
                return Ok(Some(path));
            }
            if is.is_dir() && list.find(&path).is_none() {
                pending.push(path);
            }
        }
    }
    Ok(None)
}
