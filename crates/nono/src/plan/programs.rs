//! Places for programs that somebody grants once the sandbox stands.
//!
//! No process can widen its Landlock domain, but a rule holds for an inode, whatever it contains. So
//! some empty files get the right to be executed while the sandbox is built; the owner fills one of
//! them with a program that was granted later, and mounts it over the original
//! (`supervisor/programs.rs`).

use std::path::Path;

use nono_init::protocol::{self as p, Step};

use super::PlanBuilder;
use super::mounts::{landlock, size};
use crate::policy::Policy;

/// How many programs can be in place at the same time.
pub(crate) const PLACES: usize = 16;

impl PlanBuilder {
    /// Makes them in a directory of their own, which the private /run then covers.
    pub(super) fn program_places(&mut self, policy: &Policy) {
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        let options = format!("mode=700,{}", size(policy, 25));
        let description = "mounting a place for programs";
        self.mount(description, "/run", Some("tmpfs"), flags, Some(&options));
        for place in 0..PLACES {
            let path = Path::new("/run").join(place.to_string());
            self.make(p::STEP_CREATE, &path, 0o700);
            self.rule(&path, landlock::EXECUTE | landlock::READ_FILE);
        }
        self.hand_out("handing out the place for programs", "/run");
        self.hand_out("handing out the mount namespace", "/proc/self/ns/mnt");
    }

    pub(super) fn hand_out(&mut self, description: &str, path: &str) {
        let path = self.bytes(path.as_bytes());
        self.step(description, Step { op: p::STEP_OPEN_PLACE, path, ..Step::default() });
    }
}
