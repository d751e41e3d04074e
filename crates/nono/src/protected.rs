//! Names that programs outside the sandbox take orders from: whoever can write them in a workspace
//! runs code on the host the next time that its user opens an editor, a shell or git there
//! (CVE-2025-54135, CVE-2026-25725, and the class that they belong to). Below writable directories
//! they can be read but not written, unless the policy says otherwise.

use std::collections::HashSet;
use std::path::Path;
use std::sync::LazyLock;

use crate::ancestry::{name, names, upwards};
use crate::fold::folded;
use crate::pattern::Form;

/// Anywhere in a path: the file, or the directory with all below it.
const NAMES: &[&str] = &[
    // Editors and agents: tasks, servers, hooks, permissions.
    ".vscode",
    ".idea",
    ".zed",
    ".fleet",
    ".helix",
    ".claude",
    ".claude.json",
    ".cursor",
    ".codex",
    ".gemini",
    ".windsurf",
    ".continue",
    ".aider.conf.yml",
    ".opencode",
    "opencode.json",
    "opencode.jsonc",
    ".crush.json",
    "crush.json",
    ".kiro",
    ".roo",
    ".kilocode",
    ".amazonq",
    ".trae",
    ".junie",
    ".qwen",
    ".factory",
    ".mcp.json",
    ".devcontainer",
    ".devcontainer.json",
    ".exrc",
    ".vimrc",
    ".nvimrc",
    ".nvim.lua",
    ".dir-locals.el",
    ".gdbinit",
    ".lldbinit",
    // Interpreters, which load them from the directory that they start in.
    ".rprofile",
    ".renviron",
    ".irbrc",
    ".pryrc",
    ".pdbrc",
    ".ghci",
    ".iex.exs",
    ".octaverc",
    // What the next run may do.
    "nono.json",
    "nono.jsonc",
    // Shells, and what they load on entering a directory.
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".bash_logout",
    ".bash_aliases",
    ".profile",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".zlogin",
    ".zlogout",
    ".envrc",
    ".tmux.conf",
    // Git and its hooks' managers.
    ".gitconfig",
    ".husky",
    // Package managers: registries, tokens, script shells.
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".pnpmfile.cjs",
    ".pypirc",
    ".netrc",
    ".ssh",
];

/// By their place in a repository. git itself writes samples of hooks, and creates the directory.
const FORMS: &[&str] = &[
    "**/.git/hooks/*",
    "**/.git/modules/**/hooks/*",
    "**/.git/commondir",
    "**/.git/config.worktree",
    "**/.git/worktrees/*/config.worktree",
    "**/.config/git",
    "**/.config/fish",
    "**/.cargo/config",
    "**/.cargo/config.toml",
];

/// Written by git all the time, so what is written is judged, not that it is.
const GIT_CONFIGURATION: &[&str] = &["**/.git/config", "**/.git/modules/**/config"];

/// Below these directories, what packages bring along is no workspace of anybody.
const DEPENDENCIES: &[&str] =
    &["node_modules", "site-packages", "dist-packages", "vendor", ".venv"];

static PROTECTED_NAMES: LazyLock<HashSet<&[u8]>> =
    LazyLock::new(|| NAMES.iter().map(|name| name.as_bytes()).collect());
static PROTECTED: LazyLock<Vec<Form>> = LazyLock::new(|| forms(FORMS));
static CONFIGURATION: LazyLock<Vec<Form>> = LazyLock::new(|| forms(GIT_CONFIGURATION));

fn forms(globs: &[&str]) -> Vec<Form> {
    globs.iter().map(|glob| Form::new(glob)).collect()
}

/// What of `path` is protected: the path down to the name that says so, in whatever case.
pub(crate) fn protected_part(path: &Path) -> Option<&Path> {
    let folded = folded(path);
    if !is_remarkable(&folded) || is_dependency(path) {
        return None;
    }
    let is_sample = path.extension().is_some_and(|extension| extension == "sample");
    let is_protected = |part: &Path| {
        PROTECTED_NAMES.contains(name(part))
            || (!is_sample && PROTECTED.iter().any(|form| form.matches(part)))
            || CONFIGURATION.iter().any(|form| form.matches(part))
    };
    upwards(path).zip(upwards(&folded)).find(|(_, part)| is_protected(part)).map(|(part, _)| part)
}

/// Whether any name in `path` is like those that are protected: most paths have none, and are done.
fn is_remarkable(path: &Path) -> bool {
    let is_plain = |name: &[u8]| name.ends_with(b".json") || name.ends_with(b".jsonc");
    names(path).any(|name| name.starts_with(b".") || is_plain(name))
}

/// Whether the name of `path` is part of what protects something below it.
pub(crate) fn leads_to_protected(path: &Path) -> bool {
    let folded = folded(path);
    let mut forms = PROTECTED.iter().chain(CONFIGURATION.iter());
    is_remarkable(&folded) && !is_dependency(path) && forms.any(|form| form.is_led_to_by(&folded))
}

/// Whether a file here may be replaced by one that names no new programs.
pub(crate) fn is_git_configuration(path: &Path) -> bool {
    let folded = folded(path);
    CONFIGURATION.iter().any(|form| form.matches(&folded))
}

/// Whether `path` is below a directory of dependencies, spelt as usual, where nothing is protected.
pub(crate) fn is_dependency(path: &Path) -> bool {
    names(path).any(|name| DEPENDENCIES.iter().any(|known| known.as_bytes() == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(path: &str) -> Option<&str> {
        protected_part(Path::new(path)).map(|part| part.to_str().unwrap())
    }

    #[test]
    fn protects_what_programs_outside_obey() {
        assert_eq!(part("/w/.vscode/tasks.json"), Some("/w/.vscode"));
        assert_eq!(part("/w/sub/.mcp.json"), Some("/w/sub/.mcp.json"));
        assert_eq!(part("/w/.git/hooks/pre-commit"), Some("/w/.git/hooks/pre-commit"));
        assert_eq!(part("/w/.git/hooks/a/b"), Some("/w/.git/hooks/a"));
        assert_eq!(part("/w/.git/config"), Some("/w/.git/config"));
        assert_eq!(part("/w/.git/modules/a/b/config"), Some("/w/.git/modules/a/b/config"));
        assert_eq!(part("/w/.git/modules/a/hooks/x"), Some("/w/.git/modules/a/hooks/x"));
        assert_eq!(part("/w/.git/commondir"), Some("/w/.git/commondir"));
        assert_eq!(part("/W/.GIT/Hooks/pre-commit"), Some("/W/.GIT/Hooks/pre-commit"));
        assert_eq!(part("/W/\u{200b}.vscode/Tasks"), Some("/W/\u{200b}.vscode"));
        assert_eq!(part("/w/.Git/CONFIG"), Some("/w/.Git/CONFIG"));
        assert_eq!(part("/w/opencode.json"), Some("/w/opencode.json"));
        assert_eq!(part("/w/.Rprofile"), Some("/w/.Rprofile"));
    }

    #[test]
    fn every_protected_name_is_remarkable() {
        for name in NAMES.iter().chain(FORMS).chain(GIT_CONFIGURATION) {
            assert_eq!(folded(Path::new(name)), Path::new(name));
            assert!(is_remarkable(&Path::new("/").join(name)), "{name}");
        }
        assert!(FORMS.iter().chain(GIT_CONFIGURATION).all(|form| form.starts_with("**/.")));
    }

    #[test]
    fn leaves_work_alone() {
        for path in [
            "/w/src/main.rs",
            "/w/.git/hooks",
            "/w/.git/hooks/pre-commit.sample",
            "/w/.git/config.lock",
            "/w/.git/objects/ab/cdef",
            "/w/.git/worktrees/x/commondir",
            "/w/.gitignore",
            "/w/.gitmodules",
            "/w/.env",
            "/w/package.json",
            "/w/node_modules/x/.vscode/settings.json",
        ] {
            assert_eq!(part(path), None, "{path}");
        }
    }

    #[test]
    fn knows_what_may_not_be_moved() {
        for path in ["/w/.git", "/w/.git/hooks", "/w/.GIT/hooks", "/w/.git/modules", "/w/.config"] {
            assert!(leads_to_protected(Path::new(path)), "{path}");
        }
        for path in ["/w", "/w/src", "/w/.git/objects"] {
            assert!(!leads_to_protected(Path::new(path)), "{path}");
        }
    }
}
