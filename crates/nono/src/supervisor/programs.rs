//! Programs that somebody granted once the sandbox stood.
//!
//! The plan has left empty files that may be executed (`plan/programs.rs`). One of them gets a copy of
//! the program and is mounted over the original in the sandbox's own mount namespace, read-only; then
//! the kernel is let make the execve() that asked for it. It judges that by the same rules as ever, so
//! whatever the caller has meanwhile made of its argument, it cannot execute anything else; at most, once
//! more what was granted before, if it has that open and wins a race. The copy is what was granted:
//! changing the original changes nothing.
//!
//! It stays in place while a process that was granted it executes it, since programs look for their own
//! path, and is taken away before another call is answered.

use std::ffi::{CStr, CString};
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{open_at, reopen};
use super::notif::{Listener, Notification};
use super::place::{self, Inode, inode};
use super::process;
use super::record::Given;
use crate::mount_namespace::MountNamespace;
use crate::plan::PROGRAM_PLACES;

/// A file with its contents at a time.
type Version = (Inode, u64, i64, i64);

/// A program as it was when somebody was asked about it.
pub(super) struct Program {
    file: File,
    found: Metadata,
}

impl Program {
    pub(super) fn new(file: File, found: Metadata) -> Self {
        Program { file, found }
    }

    pub(super) fn found(&self) -> &Metadata {
        &self.found
    }

    fn version(&self) -> Version {
        version(&self.found)
    }

    /// Refuses what has been written to since.
    fn is_unchanged(&self) -> io::Result<()> {
        match version(&self.file.metadata()?) == self.version() {
            true => Ok(()),
            false => Err(place::errno(libc::ETXTBSY)),
        }
    }
}

/// The places for programs of one sandbox.
#[derive(Clone)]
pub(crate) struct Programs(Arc<Mutex<Shelf>>);

struct Shelf {
    namespace: MountNamespace,
    /// Where the places are (`O_PATH`).
    directory: File,
    places: Vec<Slot>,
}

/// One place.
struct Slot {
    /// In the directory.
    name: CString,
    inode: Inode,
    /// What it is a copy of.
    copy_of: Option<Version>,
    /// Where that is.
    original: Option<File>,
    /// Over the original, while it is in place.
    mount: Option<OwnedFd>,
    users: Vec<User>,
}

/// A process that was granted a program.
struct User {
    process: i32,
    thread: i32,
    /// The program, or what interprets it; `None` as long as it may be starting.
    executes: Option<Inode>,
}

impl Programs {
    /// From what the plan handed out.
    pub(crate) fn new(directory: OwnedFd, mount_namespace: &OwnedFd) -> io::Result<Self> {
        let directory = File::from(directory);
        let namespace = MountNamespace::new(mount_namespace)?;
        let slot = |number: usize| -> io::Result<Slot> {
            let name = CString::new(number.to_string())?;
            let inode = inode(&open_at(&directory, &name, libc::O_PATH, 0)?.metadata()?);
            Ok(Slot { name, inode, copy_of: None, original: None, mount: None, users: Vec::new() })
        };
        let places = (0..PROGRAM_PLACES).map(slot).collect::<io::Result<_>>()?;
        Ok(Programs(Arc::new(Mutex::new(Shelf { namespace, directory, places }))))
    }

    /// Puts a program in place, for the call that asked for it.
    pub(super) fn give(&self, program: &Program, call: &Notification) -> Given {
        let result = self.put_in_place(program, call.thread);
        let errno = result.err().map(|error| error.raw_os_error().unwrap_or(libc::EACCES));
        let answer = move |listener: &Listener, call: &Notification| match errno {
            None => listener.carry_on(call), // whether it can be executed, the kernel says
            Some(errno) => listener.finish(call, Err(errno)),
        };
        (errno, Box::new(answer))
    }

    fn put_in_place(&self, program: &Program, thread: i32) -> io::Result<()> {
        let process = process::leader(thread).ok_or(place::errno(libc::ESRCH))?;
        let shelf = &mut *self.shelf();
        program.is_unchanged()?;
        let index = match shelf.places.iter().position(|slot| slot.inode == inode(&program.found)) {
            Some(index) => index, // it was in place when somebody was asked
            None => {
                let index = shelf.copy(program)?;
                shelf.places[index].original = Some(program.file.try_clone()?);
                index
            }
        };
        let slot = &mut shelf.places[index];
        if slot.mount.is_none() {
            let original = slot.original.as_ref().ok_or(place::errno(libc::ESTALE))?;
            slot.mount = Some(shelf.namespace.attach(&shelf.directory, &slot.name, original)?);
        }
        slot.users.push(User { process, thread, executes: None });
        Ok(())
    }

    /// Whether a file is a program that was put in place.
    pub(super) fn have_put(&self, file: &File) -> bool {
        let places = &self.shelf().places;
        file.metadata().is_ok_and(|found| places.iter().any(|slot| slot.is_over(&found)))
    }

    /// Takes away what nobody executes any more, when there is another call. While a program is being put in
    /// place nothing is done; each later call will do.
    pub(super) fn tidy_up(&self, call: &Notification) {
        let Ok(mut shelf) = self.0.try_lock() else { return };
        let Shelf { places, namespace, .. } = &mut *shelf;
        for slot in places.iter_mut() {
            let Some(mount) = &slot.mount else { continue };
            slot.users.retain_mut(|user| user.goes_on(call));
            if slot.users.is_empty() && namespace.detach(mount).is_ok() {
                slot.mount = None;
            }
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl User {
    /// Whether the program is still starting or being executed, when there is another call.
    fn goes_on(&mut self, call: &Notification) -> bool {
        let executes = Path::new("/proc").join(self.process.to_string()).join("exe").metadata();
        let executes = executes.ok().map(|found| inode(&found));
        let is_there = Path::new(&format!("/proc/{}/task/{}", self.process, self.thread)).exists();
        // A thread that executes a program takes the number of its process (`execve(2)`).
        if call.thread == self.thread || call.thread == self.process && !is_there {
            self.executes = self.executes.or(executes);
        }
        match self.executes {
            Some(_) => executes == self.executes,
            None => is_there,
        }
    }
}

impl Slot {
    /// Whether an object that was found by its path is this place, mounted there.
    fn is_over(&self, found: &Metadata) -> bool {
        self.mount.is_some() && self.inode == inode(found)
    }
}

impl Shelf {
    /// Copies a program to a place that is free, unless one has the same already.
    fn copy(&mut self, program: &Program) -> io::Result<usize> {
        let version = program.version();
        let free = |slot: &Slot| slot.mount.is_none();
        let has_it = |slot: &Slot| free(slot) && slot.copy_of == Some(version);
        if let Some(index) = self.places.iter().position(has_it) {
            return Ok(index);
        }
        let mut unused: Vec<_> =
            (0..self.places.len()).filter(|&n| free(&self.places[n])).collect();
        unused.sort_by_key(|&index| self.places[index].copy_of.is_some());
        let mut failed = place::errno(libc::ENOSPC);
        for index in unused {
            let slot = &mut self.places[index];
            slot.copy_of = None;
            match fill(&self.directory, &slot.name, program) {
                Ok(()) => {
                    slot.copy_of = Some(version);
                    return Ok(index);
                }
                // Children of a process that was granted it execute it still.
                Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => failed = error,
                Err(error) => return Err(error),
            }
        }
        Err(failed)
    }
}

fn fill(directory: &File, name: &CStr, program: &Program) -> io::Result<()> {
    let mut from = reopen(&program.file, libc::O_RDONLY, 0)?;
    let mut into = open_at(directory, name, libc::O_WRONLY | libc::O_TRUNC | libc::O_CLOEXEC, 0)?;
    let filled = io::copy(&mut from, &mut into).and_then(|_| {
        // Whether the caller may execute the original has been asked; the copy is the owner's.
        into.set_permissions(Permissions::from_mode(program.found.mode() & 0o777 | 0o700))?;
        into.set_modified(program.found.modified()?)?;
        program.is_unchanged()
    });
    filled.inspect_err(|_| _ = into.set_len(0)) // what is left would only take up memory
}

fn version(found: &Metadata) -> Version {
    (inode(found), found.size(), found.ctime(), found.ctime_nsec())
}
