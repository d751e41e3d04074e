//! The rules of a sandbox once more, as their documentation has them: written for these tests, for
//! names of a small pool, without a look at how the crate does it.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nono::{Capabilities, Right};

/// A form of denied paths.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// `**/NAME`
    Named(&'static str),
    /// `**/*SUFFIX`
    Ending(&'static str),
    /// `DIRECTORY/*SUFFIX`
    EndingIn(PathBuf, &'static str),
    /// `**/DIRECTORY/NAME`
    Below(&'static str, &'static str),
}

/// A policy for the tree below one directory; all paths are relative to that.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) read: Vec<PathBuf>,
    pub(super) write: Vec<PathBuf>,
    pub(super) execute: Vec<PathBuf>,
    pub(super) denied: Vec<PathBuf>,
    pub(super) forms: Vec<Form>,
    pub(super) protect: bool,
    /// Where symbolic links below what is denied lead, and which files have a denied name.
    denied_by_link: Vec<PathBuf>,
    denied_files: HashSet<(u64, u64, Option<SystemTime>)>,
}

impl Rules {
    pub(super) fn capabilities(&self, root: &Path) -> Capabilities {
        let mut capabilities =
            Capabilities::new().allow_exec("/usr/bin/python3").protect(self.protect);
        for path in &self.read {
            capabilities = capabilities.allow_read(root.join(path));
        }
        for path in &self.write {
            capabilities = capabilities.allow_write(root.join(path));
        }
        for path in &self.execute {
            capabilities = capabilities.allow_exec(root.join(path));
        }
        for path in &self.denied {
            capabilities = capabilities.deny(root.join(path));
        }
        for form in &self.forms {
            capabilities = capabilities.deny(match form {
                Form::Named(name) => PathBuf::from(format!("**/{name}")),
                Form::Ending(suffix) => PathBuf::from(format!("**/*{suffix}")),
                Form::EndingIn(directory, suffix) => {
                    root.join(directory).join(format!("*{suffix}"))
                }
                Form::Below(directory, name) => PathBuf::from(format!("**/{directory}/{name}")),
            });
        }
        capabilities
    }

    /// Looks at what is below denied places as the sandbox does when it is made.
    pub(super) fn look_around(&mut self, root: &Path) {
        let mut ahead: Vec<PathBuf> = self.denied.iter().map(|path| root.join(path)).collect();
        while let Some(path) = ahead.pop() {
            let Ok(found) = path.symlink_metadata() else { continue };
            if found.is_dir() {
                ahead.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if !found.is_symlink() {
                self.denied_files.insert(identity(&found));
            } else if let Ok(target) = path.canonicalize()
                && target.is_file()
            {
                self.denied_files.insert(identity(&target.metadata().unwrap()));
                self.denied_by_link.push(target.strip_prefix(root).unwrap().to_owned());
            }
        }
    }

    /// Whether an object, by its path, is refused.
    pub(super) fn refuse_object(&self, path: &Path, file: &Metadata, right: Right) -> bool {
        self.denied_files.contains(&identity(file)) || self.refuse_path(path, right)
    }

    pub(super) fn refuse_path(&self, path: &Path, right: Right) -> bool {
        self.is_denied(path)
            || (right == Right::Write && self.is_protected(path))
            || !self.is_granted(path, right)
    }

    /// Whether making, moving or deleting a name is refused: that is a right to its directory.
    pub(super) fn refuse_name(&self, path: &Path) -> bool {
        self.refuse_removal(path) || self.is_protected(path)
    }

    pub(super) fn refuse_removal(&self, path: &Path) -> bool {
        self.is_denied(path)
            || path.parent().is_none_or(|parent| !self.is_granted(parent, Right::Write))
    }

    /// Whether the name of a directory or link is part of what a rule holds for.
    pub(super) fn holds(&self, path: &Path) -> bool {
        let leads = |form: &Form| match form {
            Form::EndingIn(directory, _) => directory.starts_with(path),
            Form::Below(directory, _) => path.file_name().is_some_and(|name| name == *directory),
            Form::Named(_) | Form::Ending(_) => false,
        };
        let in_git = path.ends_with(".git") || path.ends_with(".git/hooks");
        self.denied.iter().chain(&self.denied_by_link).any(|place| place.starts_with(path))
            || self.forms.iter().any(leads)
            || (self.protect && in_git && !is_dependency(path))
    }

    /// Whether a move is answered with EXDEV, so that programs copy: what would come to be protected,
    /// or to be executable, is looked at name by name.
    pub(super) fn is_a_border(&self, from: &Path, to: &Path) -> bool {
        let unprotected = self.protect && is_dependency(from) && !is_dependency(to);
        let executable = |path: &Path| {
            path.parent().is_some_and(|parent| self.is_granted(parent, Right::Execute))
        };
        unprotected || (executable(to) && !executable(from))
    }

    /// Whether a grant names this path, or one below it.
    pub(super) fn leads_to_grant(&self, path: &Path) -> bool {
        self.read
            .iter()
            .chain(&self.write)
            .chain(&self.execute)
            .any(|place| place.starts_with(path))
    }

    fn is_denied(&self, path: &Path) -> bool {
        let above: Vec<_> = path.ancestors().filter(|above| above.file_name().is_some()).collect();
        let named = |path: &Path, ok: &dyn Fn(&str) -> bool| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(ok)
        };
        self.denied.iter().chain(&self.denied_by_link).any(|place| path.starts_with(place))
            || self.forms.iter().any(|form| {
                above.iter().any(|path| match form {
                    Form::Named(wanted) => named(path, &|name| name == *wanted),
                    Form::Ending(suffix) => named(path, &|name| name.ends_with(suffix)),
                    Form::EndingIn(directory, suffix) => {
                        path.parent() == Some(directory)
                            && named(path, &|name| name.ends_with(suffix))
                    }
                    Form::Below(directory, wanted) => {
                        path.ends_with(Path::new(directory).join(wanted))
                    }
                })
            })
    }

    fn is_protected(&self, path: &Path) -> bool {
        let is_order = |part: &&Path| {
            let name = part.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| matches!(name, ".vscode" | ".mcp.json"))
                || part.parent().is_some_and(|parent| parent.ends_with(".git/hooks"))
        };
        if !self.protect || is_dependency(path) {
            return false;
        }
        path.ancestors().find(is_order).is_some_and(|part| {
            !self.write.iter().any(|place| place.starts_with(part) && path.starts_with(place))
        })
    }

    fn is_granted(&self, path: &Path, right: Right) -> bool {
        let all = self.read.iter().chain(&self.write).chain(&self.execute);
        let mut grants: Box<dyn Iterator<Item = &PathBuf>> = match right {
            Right::Read => Box::new(all),
            Right::Write => Box::new(self.write.iter()),
            Right::Execute => Box::new(self.execute.iter()),
        };
        grants.any(|place| path.starts_with(place))
    }
}

fn is_dependency(path: &Path) -> bool {
    path.components().any(|name| name.as_os_str() == "node_modules")
}

fn identity(file: &Metadata) -> (u64, u64, Option<SystemTime>) {
    (file.dev(), file.ino(), file.created().ok())
}
