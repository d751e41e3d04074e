//! Symbolic links that an earlier command may have put into a granted path.
//!
//! What a sandbox may write, its next run is drawn from: where one grant lets commands write, a link there
//! could have another grant mean whatever they like (CVE-2024-42472, CVE-2025-59532).

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// As many symbolic links as the kernel follows (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// Paths as they were given, and what each leads to.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) paths: &'a [PathBuf],
    pub(crate) targets: &'a [PathBuf],
}

impl<'a> Given<'a> {
    fn each(self) -> impl Iterator<Item = (&'a PathBuf, &'a PathBuf)> {
        self.paths.iter().zip(self.targets)
    }

    /// Those that lead through no link.
    fn plain(self) -> impl Iterator<Item = &'a PathBuf> {
        self.each().filter(|(path, target)| path == target).map(|(path, _)| path)
    }
}

/// Refuses a path to read, to write or to connect to that leads through such a link to where nothing else
/// grants as much.
pub(crate) fn check(
    read: Given<'_>,
    write: Given<'_>,
    scratch: Given<'_>,
    sockets: Given<'_>,
) -> Result<()> {
    let written: Vec<_> = write.plain().chain(scratch.plain()).collect();
    let readable: Vec<_> = read.plain().chain(written.iter().copied()).collect();
    let is_below =
        |grants: &[&PathBuf], place: &Path| grants.iter().any(|grant| place.starts_with(grant));
    let granted: [(Given<'_>, &[&PathBuf]); 4] =
        [(read, &readable), (sockets, &[]), (write, &written), (scratch, &written)];
    for (given, others) in granted {
        for (path, target) in given.each() {
            let is_harmless = path == target || is_below(others, target);
            if !is_harmless && links(path).iter().any(|link| is_below(&written, link)) {
                let reason = "it leads through a symbolic link that commands may replace";
                return Err(Error::InvalidPath { path: path.clone(), reason });
            }
        }
    }
    Ok(())
}

/// The symbolic links that a path leads through, each by the path of its own.
fn links(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next.take()
        && found.len() < MAX_LINKS
    {
        let mut walked = PathBuf::from("/");
        let mut rest = path.components();
        while let Some(component) = rest.next() {
            match component {
                Component::ParentDir => _ = walked.pop(),
                Component::Normal(name) => walked.push(name),
                _ => {}
            }
            let Ok(target) = walked.read_link() else { continue };
            found.push(walked.clone());
            walked.pop();
            next = Some(walked.join(target).join(rest.as_path()));
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::Capabilities;
    use crate::policy::Policy;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    /// Directories `work` and `home`, and links: `work/link` to `home`, `way` to `work`.
    fn tree(name: &str) -> PathBuf {
        let name = format!("nono-links-{name}-{}", std::process::id());
        let top = std::env::temp_dir().canonicalize().unwrap().join(name);
        for directory in ["work/own", "home"] {
            std::fs::create_dir_all(top.join(directory)).unwrap();
        }
        for (target, link) in [("../home", "work/link"), ("own", "work/to-own"), ("work", "way")] {
            symlink(target, top.join(link)).unwrap();
        }
        symlink("way/link", top.join("far")).unwrap();
        top
    }

    #[test]
    fn finds_the_links_on_a_path() {
        let top = tree("found");
        let found = |path: &str| {
            let below = |link: PathBuf| link.strip_prefix(&top).unwrap().display().to_string();
            links(&top.join(path)).into_iter().map(below).collect::<Vec<_>>()
        };
        assert_eq!(found("far"), ["far", "way", "work/link"]);
        assert_eq!(found("way/../work/own/../link/."), ["way", "work/link"]);
        assert!(found("work/own").is_empty());
        std::fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn a_link_where_commands_write_grants_nothing_else() {
        let top = tree("grants");
        let path = |name: &str| top.join(name);
        let code = |capabilities: Capabilities| {
            let resolved = Policy::resolve(&capabilities, std::iter::empty());
            resolved.map(drop).map_err(|error| error.code())
        };
        let _socket = UnixListener::bind(path("home/socket")).unwrap();
        let work = || Capabilities::new().allow_write(path("work"));
        for refused in [
            work().allow_read(path("work/link")),
            work().allow_write(path("far")),
            work().allow_unix_socket(path("work/link/socket")),
            work().allow_scratch(path("way/link")),
            work().allow_read(path("home")).allow_write(path("work/link")),
            Capabilities::new().allow_scratch(path("work")).allow_read(path("work/link")),
        ] {
            assert_eq!(code(refused), Err("ERR_NONO_INVALID_PATH"));
        }
        for allowed in [
            work().allow_read(path("way")).allow_write(path("work/to-own")),
            work().allow_read(path("home")).allow_read(path("work/link")),
            Capabilities::new().allow_read(path("work")).allow_write(path("work/link")),
            Capabilities::new().allow_write(path("far")),
        ] {
            assert_eq!(code(allowed), Ok(()));
        }
        std::fs::remove_dir_all(top).unwrap();
    }
}
