use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Which entries of a directory an operation is about, by their paths in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    /// The whole directory.
    All,
    /// Some entries with everything below them.
    Paths(Paths),
}

/// A set of paths that is asked about every entry of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paths {
    selected: HashSet<PathBuf>,
    /// Every directory on the way to one.
    above: HashSet<PathBuf>,
    /// Length of the longest that is selected: longer paths needn't be looked up.
    longest: usize,
}

impl Paths {
    pub(crate) fn insert(&mut self, path: PathBuf) {
        self.above.extend(path.ancestors().skip(1).map(Path::to_owned));
        self.longest = self.longest.max(path.as_os_str().len());
        self.selected.insert(path);
    }

    /// The directory itself and those above it, without what is in it.
    pub(crate) fn insert_alone(&mut self, directory: &Path) {
        self.above.extend(directory.ancestors().map(Path::to_owned));
    }

    fn cover(&self, path: &Path) -> bool {
        let mut above = path.ancestors().skip_while(|path| path.as_os_str().len() > self.longest);
        above.any(|path| self.selected.contains(path))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.selected.is_empty()
    }

    /// In the order of their names, none below another.
    pub(crate) fn topmost(&self) -> Vec<&Path> {
        let is_topmost =
            |path: &&Path| !path.ancestors().skip(1).any(|above| self.selected.contains(above));
        let mut paths: Vec<&Path> =
            self.selected.iter().map(PathBuf::as_path).filter(is_topmost).collect();
        paths.sort_unstable();
        paths
    }
}

impl Selection {
    /// Whether the entry is selected.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        match self {
            Self::All => true,
            Self::Paths(paths) => paths.cover(path),
        }
    }

    /// Whether the entry or something below it may be selected.
    pub(crate) fn reaches(&self, path: &Path) -> bool {
        match self {
            Self::All => true,
            Self::Paths(paths) => paths.above.contains(path) || self.contains(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_knows_what_is_below_and_what_leads_to_it() {
        let mut paths = Paths::default();
        for path in ["a/b", "a/b/c", "d"] {
            paths.insert(path.into());
        }
        assert_eq!(paths.topmost(), [Path::new("a/b"), Path::new("d")]);
        let selection = Selection::Paths(paths);
        let of = |path: &str| (selection.contains(path.as_ref()), selection.reaches(path.as_ref()));
        assert_eq!(of("a/b/x/y"), (true, true));
        assert_eq!((of("a"), of("")), ((false, true), (false, true)));
        assert_eq!((of("a/bc"), of("e")), ((false, false), (false, false)));
    }
}
