use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::{Error, Result};

/// Which entries a checkpoint leaves alone. They are never copied, listed, restored or deleted.
///
/// Patterns are read as a `.gitignore` reads them, without negation: `node_modules` matches at any
/// depth, `/target` and `build/cache` only from the directory's root, a trailing slash restricts the
/// pattern to directories. What lies below an excluded directory is excluded with it. The patterns
/// are frozen in the checkpoint's record, so that a later restore uses the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Exclude {
    any: GlobSet,
    directories: GlobSet,
    empty: bool,
}

impl Exclude {
    pub(crate) fn new(patterns: &[String]) -> Result<Self> {
        let mut any = GlobSetBuilder::new();
        let mut directories = GlobSetBuilder::new();
        for pattern in patterns {
            let bad = |reason: String| Error::BadPattern { pattern: pattern.clone(), reason };
            if pattern.starts_with('!') {
                return Err(bad("negation is not supported: name what to exclude".to_owned()));
            }
            let (body, only_directories) = match pattern.strip_suffix('/') {
                Some(body) => (body, true),
                None => (pattern.as_str(), false),
            };
            let glob = match body.strip_prefix('/') {
                Some(anchored) => anchored.to_owned(),
                None if body.contains('/') => body.to_owned(),
                None => format!("**/{body}"),
            };
            if body.trim_start_matches('/').is_empty() {
                return Err(bad("it names nothing".to_owned()));
            }
            let glob = GlobBuilder::new(&glob)
                .literal_separator(true)
                .build()
                .map_err(|error| bad(error.kind().to_string()))?;
            if only_directories { &mut directories } else { &mut any }.add(glob);
        }
        let built = |set: &GlobSetBuilder| {
            set.build().map_err(|error| Error::BadPattern {
                pattern: patterns.join(" "),
                reason: error.to_string(),
            })
        };
        Ok(Self {
            any: built(&any)?,
            directories: built(&directories)?,
            empty: patterns.is_empty(),
        })
    }

    pub(crate) fn none() -> Self {
        Self { any: GlobSet::empty(), directories: GlobSet::empty(), empty: true }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.empty
    }

    /// Whether the entry at `path`, or a directory above it, matches.
    pub(crate) fn covers(&self, path: &Path, is_dir: bool) -> bool {
        let above = || path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
        !self.empty
            && (self.matches(path, is_dir) || above().any(|above| self.matches(above, true)))
    }

    /// Whether the entry at `path`, relative to the directory, matches. The walk asks from the root
    /// down, so parents need not be asked again.
    pub(crate) fn matches(&self, path: &Path, is_dir: bool) -> bool {
        !self.empty && (self.any.is_match(path) || (is_dir && self.directories.is_match(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str, is_dir: bool) -> bool {
        Exclude::new(&[pattern.to_owned()]).unwrap().covers(Path::new(path), is_dir)
    }

    #[test]
    fn patterns_mean_what_gitignore_means() {
        assert!(matches("node_modules", "node_modules", true));
        assert!(matches("node_modules", "a/b/node_modules", true));
        assert!(matches("node_modules", "a/node_modules/x/y", false));
        assert!(!matches("node_modules", "a/node_modules2", true));
        assert!(matches("/target", "target", true));
        assert!(!matches("/target", "a/target", true));
        assert!(matches("build/*.o", "build/x.o", false));
        assert!(!matches("build/*.o", "build/deep/x.o", false));
        assert!(!matches("build/*.o", "a/build/x.o", false));
        assert!(matches("cache/", "x/cache", true));
        assert!(!matches("cache/", "x/cache", false));
        assert!(matches("*.pem", "deep/er/key.pem", false));
        assert!(matches("a/**/z", "a/b/c/z", false));
    }

    #[test]
    fn unreadable_patterns_are_refused_with_the_pattern() {
        for pattern in ["[", "!keep", "/", ""] {
            let error = Exclude::new(&[pattern.to_owned()]).unwrap_err();
            assert_eq!(error.code(), "ERR_NONO_BAD_PATTERN", "{pattern:?}");
        }
    }
}
