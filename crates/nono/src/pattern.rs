//! What a `deny` names: a place, or every place whose path is of a form.
//!
//! A pattern holds for a path and for all below it, whenever that comes to exist. It is matched
//! against the path that the kernel gives an object, never against what a program asked for; and once
//! more with case folded in both, since the path may be one of several that lead to that object.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::ancestry::{names, upwards};
use crate::error::{Error, Result};
use crate::fold::{folded, folded_text};
use crate::policy;

/// What a `deny` names.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    given: Shape,
    /// With case folded, unless that is the same.
    folded: Option<Shape>,
}

/// A place with all below it, or a form of paths.
#[derive(Clone, Debug)]
enum Shape {
    /// Without symbolic links as far as it exists.
    Place(PathBuf),
    /// With `*`, `?`, `[…]`, `{…}` and `**`, from the root on.
    Form(Form),
}

/// A glob, with what leads to its matches.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    glob: String,
    /// The plain names that every match ends in, the last one first; `None` among them: any name. They
    /// are compared before the glob is tried.
    ending: Vec<Option<Box<[u8]>>>,
    /// Globs of the directories whose names a match depends on: renaming one would rename matches.
    leading: Vec<String>,
}

impl Form {
    /// A glob from the root on: it begins with `/` or `**/`.
    pub(crate) fn new(glob: &str) -> Self {
        let components: Vec<_> = glob.split('/').collect();
        let leading = (1..components.len())
            .filter(|length| !matches!(components[length - 1], "" | "**"))
            .map(|length| components[..length].join("/"))
            .collect();
        Form { glob: glob.to_owned(), ending: ending(glob), leading }
    }

    /// Whether `path` itself is of this form.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        let mut names = names(path).rev();
        let ends_alike = self.ending.iter().all(|plain| {
            let name = names.next();
            plain.as_ref().is_none_or(|plain| name == Some(plain))
        });
        ends_alike && fast_glob::glob_match(&self.glob, path.as_os_str().as_bytes())
    }

    /// Whether the name of `path` is part of what makes a path below it a match.
    pub(crate) fn is_led_to_by(&self, path: &Path) -> bool {
        self.leading.iter().any(|glob| fast_glob::glob_match(glob, path.as_os_str().as_bytes()))
    }
}

/// What [`Form::ending`] is of a glob. Braces, brackets and backslashes may span slashes, or stand for
/// them, so a glob with any of them says nothing.
fn ending(glob: &str) -> Vec<Option<Box<[u8]>>> {
    if glob.contains(['{', '[', '\\']) {
        return Vec::new();
    }
    let plain = |name: &str| (!name.contains(['*', '?'])).then(|| name.as_bytes().into());
    glob.rsplit('/').take_while(|name| !name.contains("**")).map(plain).collect()
}

/// The one name that a part of a pattern stands for: without the backslashes that escape what would
/// otherwise be wildcards. `None`: there are more, or a backslash escapes what follows the part.
fn plain_name(part: &str) -> Option<String> {
    let mut letters = part.chars();
    let mut name = String::new();
    while let Some(letter) = letters.next() {
        name.push(match letter {
            '*' | '?' | '[' | '{' => return None,
            '\\' => letters.next()?,
            plain => plain,
        });
    }
    Some(name)
}

impl Pattern {
    /// From what a policy says: an absolute path, which need not exist; an absolute pattern; or a
    /// pattern that begins with `**/`. A path with `*`, `?`, `[` or `{` in it is a pattern; after a
    /// backslash they mean themselves.
    pub(crate) fn new(given: &Path) -> Result<Self> {
        let invalid = |reason| Err(Error::InvalidPath { path: given.to_owned(), reason });
        let bytes = given.as_os_str().as_bytes();
        if !bytes.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'{' | b'\\')) {
            return policy::canonical_as_far_as_it_exists(given).map(Pattern::place);
        }
        let Ok(text) = std::str::from_utf8(bytes) else {
            return invalid("a pattern must be UTF-8");
        };
        let text = text.trim_end_matches('/');
        let text = text.strip_suffix("/**").unwrap_or(text); // it holds for all below anyway
        if text.contains('\0') || text.split('/').any(|name| name == "..") {
            return invalid("a pattern contains neither NUL nor `..`");
        }
        if !text.starts_with('/') && !text.starts_with("**/") {
            return invalid("a pattern begins with `/` or `**/`");
        }
        // The part without wildcards is a place, whose symbolic links are resolved like any other's.
        let plain: Vec<_> = text.split('/').map_while(plain_name).collect();
        let rest: Vec<_> = text.split('/').skip(plain.len()).collect();
        if plain.len() <= 1 {
            return Ok(Pattern::form(text));
        }
        let place = policy::canonical_as_far_as_it_exists(Path::new(&plain.join("/")))?;
        if rest.is_empty() {
            return Ok(Pattern::place(place));
        }
        let Some(place) = place.to_str() else { return invalid("a pattern must be UTF-8") };
        let escaped: String = place
            .chars()
            .flat_map(|letter| {
                let special = matches!(letter, '*' | '?' | '[' | '{' | '\\');
                special.then_some('\\').into_iter().chain([letter])
            })
            .collect();
        Ok(Pattern::form(&format!("{escaped}/{}", rest.join("/"))))
    }

    /// This path, without symbolic links as far as it exists, and all below it.
    pub(crate) fn place(path: PathBuf) -> Self {
        let folded = match folded(&path) {
            Cow::Borrowed(_) => None,
            Cow::Owned(folded) => Some(Shape::Place(folded)),
        };
        Pattern { given: Shape::Place(path), folded }
    }

    fn form(glob: &str) -> Self {
        let folded = folded_text(glob);
        let folded = (folded != glob).then(|| Shape::Form(Form::new(&folded)));
        Pattern { given: Shape::Form(Form::new(glob)), folded }
    }

    /// The place that it names; `None`: it is a form.
    pub(crate) fn as_place(&self) -> Option<&Path> {
        match &self.given {
            Shape::Place(place) => Some(place),
            Shape::Form(_) => None,
        }
    }

    /// Whether it is more than a place.
    pub(crate) fn is_form(&self) -> bool {
        self.as_place().is_none()
    }

    /// Whether it holds for `path`: the path, or a directory above it, is what is named.
    pub(crate) fn holds_for(&self, path: &Path) -> bool {
        self.is_so_of(path, Shape::holds_for)
    }

    /// Whether moving `path` away, or another directory into its place, would change what this
    /// pattern holds for.
    pub(crate) fn is_led_to_by(&self, path: &Path) -> bool {
        self.is_so_of(path, Shape::is_led_to_by)
    }

    /// As given, for what folding takes from a form (`[!A-Z]`), or folded.
    fn is_so_of(&self, path: &Path, is_so: impl Fn(&Shape, &Path) -> bool) -> bool {
        let shape = self.folded.as_ref().unwrap_or(&self.given);
        is_so(&self.given, path)
            || match folded(path) {
                Cow::Borrowed(same) => self.folded.is_some() && is_so(shape, same),
                Cow::Owned(folded) => is_so(shape, &folded),
            }
    }
}

impl Shape {
    fn holds_for(&self, path: &Path) -> bool {
        match self {
            Shape::Place(place) => path.starts_with(place),
            Shape::Form(form) => upwards(path).any(|above| form.matches(above)),
        }
    }

    fn is_led_to_by(&self, path: &Path) -> bool {
        match self {
            Shape::Place(place) => place.starts_with(path),
            Shape::Form(form) => form.is_led_to_by(path),
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.given {
            Shape::Place(place) => place.display().fmt(formatter),
            Shape::Form(form) => form.glob.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(pattern: &str, path: &str) -> bool {
        Pattern::new(Path::new(pattern)).unwrap().holds_for(Path::new(path))
    }

    #[test]
    fn holds_for_matches_and_all_below() {
        assert!(holds("**/.env", "/w/.env"));
        assert!(holds("**/.env", "/.env"));
        assert!(holds("**/.env", "/w/a/b/.env/c"));
        assert!(!holds("**/.env", "/w/.env.example"));
        assert!(!holds("**/.env", "/w/x.env"));
        assert!(holds("**/*.pem", "/w/deep/down/key.pem"));
        assert!(holds("**/.env*", "/w/.env.local"));
        assert!(holds("/nowhere/**/x", "/nowhere/x"));
        assert!(holds("/nowhere/**/x", "/nowhere/a/x"));
        assert!(!holds("/nowhere/**/x", "/elsewhere/a/x"));
        assert!(holds("/nowhere/*/x/**", "/nowhere/a/x/y"));
        assert!(!holds("/nowhere/*/x", "/nowhere/a/b/x"));
        assert!(holds("/nowhere/secret", "/nowhere/secret/deep"));
        assert!(!holds("/nowhere/secret", "/nowhere/secrets"));
        assert!(holds("/nowhere/{a,b}.txt", "/nowhere/b.txt"));
        assert!(holds(r"/nowhere/\*", "/nowhere/*"));
        assert!(!holds(r"/nowhere/\*", "/nowhere/x"));
    }

    /// An agent that can say where a link leads must not thereby say what is denied.
    #[test]
    fn resolves_links_behind_escaped_names() {
        let top = std::env::temp_dir().join(format!("nono-pattern-{}", std::process::id()));
        std::fs::create_dir_all(top.join("real")).unwrap();
        std::os::unix::fs::symlink("real", top.join("app[1]")).unwrap();
        std::os::unix::fs::symlink("real", top.join(r"a\b")).unwrap();
        let top = top.canonicalize().unwrap();
        let holds = |pattern: &str, path: &str| {
            let pattern = Pattern::new(&top.join(pattern)).unwrap();
            pattern.holds_for(&top.join(path))
        };
        assert!(holds(r"app\[1\]/.env", "real/.env"));
        assert!(holds(r"app\[1\]/.env/**", "real/.env/deep"));
        assert!(holds(r"app\[1\]/*.pem", "real/key.pem"));
        assert!(holds(r"a\\b/{.env,x}", "real/.env"));
        assert!(holds(r"\n\o\w\h\e\r\e/\{x\}", "nowhere/{x}"));
        assert!(!holds(r"app\[1\]/.env", "real/x"));
        std::fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn holds_in_whatever_case() {
        assert!(holds("**/.env", "/w/.ENV"));
        assert!(holds("**/Secrets/*.pem", "/w/secrets/KEY.PEM"));
        assert!(holds("/nowhere/Secret", "/nowhere/SECRET/deep"));
        assert!(holds("/NOWHERE/{A,b}.txt", "/nowhere/a.TXT"));
        assert!(holds("/nowhere/[!A-Z]*", "/nowhere/lower"));
        assert!(!holds("/nowhere/[!A-Z]*", "/nowhere/UPPER"));
        assert!(!holds("/nowhere/Secret", "/nowhere/SECRETS"));
    }

    #[test]
    fn knows_the_directories_whose_names_matter() {
        let leads = |pattern: &str, path: &str| {
            Pattern::new(Path::new(pattern)).unwrap().is_led_to_by(Path::new(path))
        };
        assert!(leads("**/.git/hooks/*", "/w/.git"));
        assert!(leads("**/.git/hooks/*", "/w/.git/hooks"));
        assert!(!leads("**/.git/hooks/*", "/w"));
        assert!(!leads("**/.env", "/w/any"));
        assert!(leads("/nowhere/**/x", "/nowhere"));
        assert!(leads("/nowhere/a/secret", "/nowhere/a"));
        assert!(!leads("/nowhere/a/secret", "/nowhere/b"));
    }

    #[test]
    fn refuses_what_no_path_can_match() {
        for pattern in ["*.pem", "a/*", "/a/../*", "/a\0*"] {
            let refused = Pattern::new(Path::new(pattern)).unwrap_err();
            assert_eq!(refused.code(), "ERR_NONO_INVALID_PATH", "{pattern:?}");
        }
    }
}
