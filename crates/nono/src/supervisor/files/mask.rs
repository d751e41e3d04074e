//! What callers leave out of the modes of what they make (`umask(2)`).

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::super::place::errno;

/// The masks of threads, read once and remembered until any thread may have changed its own: reading one
/// takes longer than most operations. A thread's number is given out again only when all have been used.
#[derive(Default)]
pub(super) struct Masks {
    known: HashMap<i32, libc::mode_t>,
    /// Whose umask(2) the kernel may not have made yet. Whoever shares the mask may still be seen with
    /// the old one, so nothing is remembered meanwhile.
    changing: Vec<i32>,
    /// `/proc/TID/status` of the last thread that was asked about.
    status: Option<(i32, File)>,
}

impl Masks {
    /// Forgets what is known, since the thread goes on to change its mask.
    pub(super) fn forget(&mut self, thread: i32) {
        const MANY: usize = 64;
        self.known.clear();
        if self.changing.len() >= MANY {
            self.changing.retain(|changing| may_be_changing(*changing));
        }
        if !self.changing.contains(&thread) {
            self.changing.push(thread);
        }
    }

    /// The mask of a thread that is parked, as `is_parked` says if it is asked.
    pub(super) fn of(
        &mut self,
        thread: i32,
        is_parked: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<libc::mode_t> {
        const MANY: usize = 1024;
        self.changing.retain(|changing| *changing != thread && may_be_changing(*changing));
        if let Some(mask) = self.known.get(&thread) {
            return Ok(*mask);
        }
        let mask = self.read(thread)?;
        if self.changing.is_empty() {
            is_parked()?; // else it may be another thread's
            if self.known.len() >= MANY {
                self.known.clear();
            }
            self.known.insert(thread, mask);
        }
        Ok(mask)
    }

    fn read(&mut self, thread: i32) -> io::Result<libc::mode_t> {
        // The second line, after a name of at most 64 bytes; the rest is not worth reading.
        let mut head = [0; 128];
        // Of a thread that had the same number before nothing can be read (ESRCH).
        let kept = self.status.as_ref().filter(|(of, _)| *of == thread);
        let length = match kept.and_then(|(_, file)| file.read_at(&mut head, 0).ok()) {
            Some(length) => length,
            None => {
                let file = File::open(format!("/proc/{thread}/status"))?;
                self.status.insert((thread, file)).1.read_at(&mut head, 0)?
            }
        };
        let head = String::from_utf8_lossy(&head[..length]);
        head.lines()
            .find_map(|line| line.strip_prefix("Umask:"))
            .and_then(|mask| libc::mode_t::from_str_radix(mask.trim(), 8).ok())
            .ok_or(errno(libc::EIO))
    }
}

/// Whether a thread whose umask(2) was let on may not have made it yet. It was woken for that, the call
/// does not sleep, and signals are looked at after it (`seccomp_do_user_notification` in
/// kernel/seccomp.c): so not if it waits for anything by now, has stopped or is gone.
fn may_be_changing(thread: i32) -> bool {
    let Ok(stat) = std::fs::read(format!("/proc/{thread}/stat")) else { return false };
    let end_of_name = stat.iter().rposition(|byte| *byte == b')'); // the name can hold anything
    end_of_name.and_then(|end| stat.get(end + 2)) == Some(&b'R')
}
