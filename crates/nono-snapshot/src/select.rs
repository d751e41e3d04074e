use std::path::{Path, PathBuf};

/// Which entries of a directory an operation is about, by their paths in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    /// The whole directory.
    All,
    /// These entries with everything below them.
    Paths(Vec<PathBuf>),
}

impl Selection {
    /// Whether the entry is selected.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        match self {
            Self::All => true,
            Self::Paths(paths) => paths.iter().any(|selected| path.starts_with(selected)),
        }
    }

    /// Whether the entry or something below it may be selected.
    pub(crate) fn reaches(&self, path: &Path) -> bool {
        match self {
            Self::All => true,
            Self::Paths(paths) => paths
                .iter()
                .any(|selected| path.starts_with(selected) || selected.starts_with(path)),
        }
    }
}
