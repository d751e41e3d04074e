//! Whether a new git configuration names programs that the old one did not.
//!
//! git runs what its configuration says (`core.fsmonitor`, `core.sshCommand`, filters, aliases …),
//! and it does so for whoever uses the repository next, outside the sandbox. So a change inside may
//! bring only keys that are known to hold data. All else must have been there before.

use std::collections::HashSet;

/// Keys that name no program and lead to no other configuration (`git-config(1)`), by section; `*`
/// stands for any key. A section's second part (`[remote "origin"]`) is not looked at.
const HARMLESS: &[(&str, &[&str])] = &[
    (
        "core",
        &[
            "repositoryformatversion",
            "filemode",
            "bare",
            "logallrefupdates",
            "ignorecase",
            "precomposeunicode",
            "symlinks",
            "autocrlf",
            "eol",
            "safecrlf",
            "quotepath",
            "sparsecheckout",
            "sparsecheckoutcone",
            "abbrev",
            "compression",
            "bigfilethreshold",
            "untrackedcache",
            "splitindex",
            "commentchar",
            "whitespace",
        ],
    ),
    ("remote", &["url", "pushurl", "fetch", "push", "tagopt", "prune", "prunetags", "mirror"]),
    ("remote", &["promisor", "partialclonefilter", "skipdefaultupdate", "skipfetchall"]),
    ("branch", &["remote", "merge", "rebase", "pushremote", "description"]),
    ("submodule", &["url", "active", "ignore", "branch", "fetchrecursesubmodules", "recurse"]),
    ("user", &["name", "email", "signingkey", "useconfigonly"]),
    ("author", &["name", "email"]),
    ("committer", &["name", "email"]),
    (
        "extensions",
        &["worktreeconfig", "objectformat", "partialclone", "refstorage", "compatobjectformat"],
    ),
    ("pull", &["rebase", "ff"]),
    ("push", &["default", "autosetupremote", "followtags"]),
    ("fetch", &["prune", "prunetags", "parallel", "writecommitgraph", "recursesubmodules"]),
    ("init", &["defaultbranch"]),
    ("merge", &["conflictstyle", "ff", "renames", "stat", "log"]),
    ("rebase", &["autosquash", "autostash", "updaterefs", "stat"]),
    ("diff", &["algorithm", "renames", "colormoved", "context", "mnemonicprefix"]),
    ("status", &["*"]),
    ("advice", &["*"]),
    ("color", &["*"]),
    ("column", &["*"]),
    ("log", &["date", "abbrevcommit", "follow", "decorate"]),
    ("rerere", &["enabled", "autoupdate"]),
    ("gc", &["auto", "autodetach", "pruneexpire", "worktreepruneexpire"]),
    ("maintenance", &["auto", "strategy"]),
    ("index", &["version", "threads", "sparse"]),
    ("pack", &["threads", "windowmemory", "compression"]),
    ("feature", &["manyfiles", "experimental"]),
    ("commit", &["verbose", "status", "cleanup"]),
    ("tag", &["sort"]),
    ("checkout", &["defaultremote", "guess", "workers"]),
    ("worktree", &["guessremote", "userelativepaths"]),
];

/// One setting: its section as written, its key in lower case (empty for the section's own line),
/// and the whole logical line.
#[derive(PartialEq, Eq, Hash)]
struct Setting {
    section: String,
    key: String,
    line: String,
}

/// The first setting in `new` that is neither in `old` nor known to be data; `None`: all are.
/// What cannot be read the way git reads it counts as the former.
pub(crate) fn first_executable(old: &[u8], new: &[u8]) -> Option<String> {
    let Some(new) = settings(new) else { return Some("a configuration of unusual form".into()) };
    let old: HashSet<_> = settings(old).unwrap_or_default().into_iter().collect();
    new.into_iter()
        .find(|setting| !is_harmless(setting) && !old.contains(setting))
        .map(|setting| format!("{}.{}", setting.section, setting.key))
}

fn is_harmless(setting: &Setting) -> bool {
    let section = setting.section.split([' ', '\t', '.']).next().unwrap_or_default();
    let value = setting.line.split_once('=').map_or("", |(_, value)| value.trim());
    let section = section.to_ascii_lowercase();
    if setting.key.is_empty() {
        return true;
    }
    match (section.as_str(), setting.key.as_str()) {
        // A submodule's repository says where its files are; only ever below the superproject's.
        ("core", "worktree") => value.trim_matches('"').starts_with("../"),
        // `!command` is a program; the others are words (`gitmodules(5)`).
        ("submodule", "update") => matches!(value, "checkout" | "rebase" | "merge" | "none"),
        // `transport::address` runs git-remote-transport.
        ("remote", "url" | "pushurl") | ("submodule", "url") if value.contains("::") => false,
        (section, key) => HARMLESS.iter().any(|(name, keys)| {
            *name == section && keys.iter().any(|known| *known == "*" || *known == key)
        }),
    }
}

/// `None`: not in the plain form that git itself writes.
fn settings(contents: &[u8]) -> Option<Vec<Setting>> {
    let text = std::str::from_utf8(contents).ok()?.replace("\r\n", "\n");
    let joined = text.replace("\\\n", "\u{1}"); // a value goes on after a backslash
    let mut section = None;
    let mut found = Vec::new();
    for line in joined.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            // Nothing may follow on the line: git would read a setting there.
            let name = header.strip_suffix(']')?;
            let plain = name.split('"').next().unwrap_or_default();
            if plain.contains([']', '#', ';']) || name.matches('"').count() % 2 != 0 {
                return None;
            }
            section = Some(name.to_owned());
            continue;
        }
        let section = section.clone()?;
        let key = line.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        if key.is_empty()
            || !key.chars().all(is_name)
            || line.contains('\u{1}') && !line.contains('=')
        {
            return None;
        }
        found.push(Setting { section, key, line: line.to_owned() });
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "[core]\n\tbare = false\n\teditor = vim\n[alias]\n\tst = !status\n";

    fn judge(new: &str) -> Option<String> {
        first_executable(OLD.as_bytes(), new.as_bytes())
    }

    #[test]
    fn lets_data_through() {
        assert_eq!(judge(OLD), None);
        let remote =
            "[remote \"origin\"]\n\turl = https://a.test/x.git\n\tfetch = +refs/*:refs/*\n";
        assert_eq!(judge(&format!("{OLD}{remote}")), None);
        assert_eq!(judge("[submodule \"x\"]\n\tactive = true\n\tupdate = checkout\n"), None);
        assert_eq!(judge("[core]\n\tworktree = ../../../x\n"), None);
    }

    #[test]
    fn names_what_would_be_run() {
        for (new, expected) in [
            ("[core]\n\tfsmonitor = /tmp/x\n", "core.fsmonitor"),
            ("[CORE]\n\tFSMonitor = /tmp/x\n", "CORE.fsmonitor"),
            ("[core]\n\teditor = evil\n", "core.editor"),
            ("[alias]\n\tst = !evil\n", "alias.st"),
            ("[include]\n\tpath = evil\n", "include.path"),
            ("[includeIf \"gitdir:/\"]\n\tpath = evil\n", "includeIf \"gitdir:/\".path"),
            ("[filter \"x\"]\n\tclean = evil\n", "filter \"x\".clean"),
            ("[submodule \"x\"]\n\tupdate = !evil\n", "submodule \"x\".update"),
            ("[remote \"x\"]\n\turl = ext::sh -c evil\n", "remote \"x\".url"),
            ("[remote \"x\"]\n\tuploadpack = evil\n", "remote \"x\".uploadpack"),
            ("[core]\n\tworktree = /home\n", "core.worktree"),
        ] {
            assert_eq!(judge(new).as_deref(), Some(expected), "{new}");
        }
    }

    #[test]
    fn lets_nothing_hide() {
        for new in [
            "[core] fsmonitor = x\n",
            "[core]\n\tbare \\\n = x\n",
            "fsmonitor = x\n",
            "[core]\n\tbare = \\\n\tfsmonitor = x\n[core]\n\tfsmonitor = y\n",
            "[a]]\n\tb = c\n",
        ] {
            assert!(judge(new).is_some(), "{new}");
        }
        // A value that goes on in the next line is part of that value, to git as well.
        assert_eq!(judge("[user]\n\tname = a \\\n\tb\n"), None);
    }
}
