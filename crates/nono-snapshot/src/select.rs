use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Which entries of a directory an operation is about, by their paths in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    /// The whole directory.
    All,
    /// Some entries with everything below them.
    Paths(Paths),
}

/// What a selection means for an entry. That of what is in it follows from it and a name, so that a deep
/// tree takes no longer than a wide one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It is selected.
    Inside,
    /// Something below it is selected: the number of its node.
    Above(usize),
    /// Neither.
    Outside,
}

impl Reach {
    pub(crate) fn is_inside(self) -> bool {
        self == Self::Inside
    }

    pub(crate) fn is_outside(self) -> bool {
        self == Self::Outside
    }
}

/// A set of paths that is asked about every entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    /// A tree of names, each node after the one above it; the first is the directory itself.
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    name: OsString,
    above: usize,
    below: HashMap<OsString, usize>,
    is_selected: bool,
}

impl Default for Paths {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Paths {
    pub(crate) fn insert(&mut self, path: &Path) {
        let node = self.insert_alone(path);
        self.nodes[node].is_selected = true;
    }

    /// The directory itself and those above it, without what is in it. Returns its node.
    pub(crate) fn insert_alone(&mut self, directory: &Path) -> usize {
        let mut node = 0;
        for name in directory {
            let (above, next) = (node, self.nodes.len());
            node = *self.nodes[above].below.entry(name.to_owned()).or_insert(next);
            if node == next {
                self.nodes.push(Node { name: name.to_owned(), above, ..Node::default() });
            }
        }
        node
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.nodes.iter().any(|node| node.is_selected)
    }

    /// In the order of their names, none below another.
    pub(crate) fn topmost(&self) -> Vec<PathBuf> {
        let (mut topmost, mut covered) = (Vec::new(), vec![false; self.nodes.len()]);
        for (number, node) in self.nodes.iter().enumerate() {
            covered[number] =
                covered[node.above] || number > 0 && self.nodes[node.above].is_selected;
            if node.is_selected && !covered[number] {
                topmost.push(self.path(number));
            }
        }
        topmost.sort_unstable();
        topmost
    }

    fn path(&self, mut node: usize) -> PathBuf {
        let mut names = Vec::new();
        while node > 0 {
            names.push(&self.nodes[node].name);
            node = self.nodes[node].above;
        }
        names.into_iter().rev().collect()
    }

    fn reach(&self, node: usize) -> Reach {
        if self.nodes[node].is_selected { Reach::Inside } else { Reach::Above(node) }
    }
}

impl Selection {
    /// The directory itself.
    pub(crate) fn root(&self) -> Reach {
        match self {
            Self::All => Reach::Inside,
            Self::Paths(paths) => paths.reach(0),
        }
    }

    /// What is called `name` in a directory.
    pub(crate) fn below(&self, directory: Reach, name: &OsStr) -> Reach {
        match (self, directory) {
            (Self::Paths(paths), Reach::Above(node)) => {
                let below = paths.nodes[node].below.get(name);
                below.map_or(Reach::Outside, |&node| paths.reach(node))
            }
            _ => directory,
        }
    }

    /// The entry at `path`.
    pub(crate) fn of(&self, path: &Path) -> Reach {
        path.iter().fold(self.root(), |directory, name| self.below(directory, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_knows_what_is_below_and_what_leads_to_it() {
        let mut paths = Paths::default();
        assert!(paths.is_empty());
        paths.insert_alone("f/g".as_ref());
        assert!(paths.is_empty());
        for path in ["a/b", "a/b/c", "d"] {
            paths.insert(path.as_ref());
        }
        assert_eq!(paths.topmost(), [Path::new("a/b"), Path::new("d")]);
        let selection = Selection::Paths(paths);
        let of = |path: &str| {
            let reach = selection.of(path.as_ref());
            (reach.is_inside(), !reach.is_outside())
        };
        assert_eq!((of("a/b/x/y"), of("a/b/c")), ((true, true), (true, true)));
        assert_eq!((of("a"), of(""), of("f/g")), ((false, true), (false, true), (false, true)));
        assert_eq!(
            (of("a/bc"), of("e"), of("f/g/h")),
            ((false, false), (false, false), (false, false))
        );
    }

    /// Whoever names a path says how deep it is.
    #[test]
    fn a_path_of_a_hundred_thousand_levels() {
        let mut paths = Paths::default();
        paths.insert(&std::iter::repeat_n("d", 100_000).collect::<PathBuf>());
        assert_eq!(paths.topmost().len(), 1);
        let selection = Selection::Paths(paths);
        assert!(!selection.of("d/d/d".as_ref()).is_outside());
        assert!(selection.of("d/e".as_ref()).is_outside());
    }
}
