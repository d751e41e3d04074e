//! Where programs look names up: files of the sandbox's own, since the machine's lead to addresses that
//! are not there.

use std::path::Path;

use nono_init::protocol::{self as p, Step};

use super::PlanBuilder;
use super::mounts::{Kept, SMALL, landlock};
use crate::capabilities::Network;
use crate::policy::Policy;

impl PlanBuilder {
    /// Makes them, to be shown in the place of the machine's, unless its network is the sandbox's too.
    /// They are in a directory of their own, which the private /run then covers.
    pub(super) fn private_names(&mut self, policy: &Policy) -> Vec<Kept> {
        if policy.network == Network::Open {
            return Vec::new();
        }
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        self.mount("mounting a place for names", "/run", Some("tmpfs"), flags, Some(SMALL));
        let mut files = Vec::new();
        if matches!(policy.network, Network::Gate { .. }) {
            // Any address leads to the gate, since all are local. Where this cannot be put (a
            // configuration below /run that is not granted), libc asks the default, 127.0.0.1.
            files.extend(self.private_file("/etc/resolv.conf", b"nameserver 198.18.0.1\n"));
        }
        let hosts = Path::new("/etc/hosts");
        let access = policy.access_to(&hosts.canonicalize().unwrap_or_default());
        if access.read && !access.write {
            let contents = hosts_file(host_name().as_deref());
            files.extend(self.private_file("/etc/hosts", contents.as_bytes()));
        }
        files
    }

    /// A file with these contents, for what `place` leads to.
    fn private_file(&mut self, place: &str, contents: &[u8]) -> Option<Kept> {
        let path = Path::new(place).canonicalize().ok()?;
        let source = Path::new("/run").join(Path::new(place).file_name()?);
        self.make(p::STEP_CREATE, &source, 0o644);
        let step = Step {
            op: p::STEP_WRITE,
            path: self.path(&source),
            source: self.bytes(contents),
            extra: contents.len() as u64,
            ..Step::default()
        };
        self.step(format!("writing a private {place}"), step);
        let register = self.take_aside(&source, 0);
        Some(Kept { path, register, is_dir: false, writable: true })
    }

    /// Puts a private file where it is looked for.
    pub(super) fn show(&mut self, policy: &Policy, file: &Kept) {
        self.put_back(policy, file, p::OPTIONAL);
        let step = Step {
            op: p::STEP_LANDLOCK_RULE | p::OPTIONAL,
            path: self.path(&file.path),
            flags: landlock::READ_FILE,
            ..Step::default()
        };
        self.step(format!("granting the private {}", file.path.display()), step);
    }
}

/// This machine by its names: all that a network of one's own has.
fn hosts_file(name: Option<&str>) -> String {
    let name = name.map(|name| format!(" {name}")).unwrap_or_default();
    format!("127.0.0.1 localhost{name}\n::1 localhost ip6-localhost ip6-loopback{name}\n")
}

/// The machine's own name, if it is one for `hosts(5)`.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim_end();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (!name.is_empty() && name.bytes().all(is_plain)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_this_machine() {
        let expected = "127.0.0.1 localhost m-1\n::1 localhost ip6-localhost ip6-loopback m-1\n";
        assert_eq!(hosts_file(Some("m-1")), expected);
    }
}
