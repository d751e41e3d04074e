//! Small random trees, and policies and calls for them.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::model::{Form, Rules};

/// A generator of random numbers: splitmix64.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    pub(super) fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

const DIRECTORIES: &[&str] = &["a", "b", "c", "d", ".git", "hooks", "node_modules", ".vscode"];
const FILES: &[&str] = &["x", "y", ".env", "k.pem", "v.key", ".mcp.json", "tool", "l", "m"];

/// What is in a tree at the beginning.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) directories: Vec<PathBuf>,
    pub(super) files: Vec<PathBuf>,
    links: Vec<(PathBuf, String)>,
    hard_links: Vec<(PathBuf, PathBuf)>,
}

impl Tree {
    pub(super) fn draw(random: &mut Random) -> Self {
        let mut directories: Vec<PathBuf> = ["a", "b", "c"].iter().map(PathBuf::from).collect();
        for _ in 0..6 {
            let new = random.pick(&directories).join(random.pick(DIRECTORIES));
            if new.components().count() <= 4 && !directories.contains(&new) {
                directories.push(new);
            }
        }
        let mut names: Vec<PathBuf> = Vec::new();
        for _ in 0..20 {
            let new = random.pick(&directories).join(random.pick(FILES));
            if !names.contains(&new) && !directories.contains(&new) {
                names.push(new);
            }
        }
        let mut tree =
            Tree { directories, files: Vec::new(), links: Vec::new(), hard_links: Vec::new() };
        for name in names {
            if name.ends_with("l") || name.ends_with("m") {
                let target = tree.any_path(random);
                let up = "../".repeat(name.components().count() - 1);
                tree.links.push((name, format!("{up}{target}")));
            } else if !tree.files.is_empty() && random.one_in(5) {
                tree.hard_links.push((random.pick(&tree.files).clone(), name));
            } else {
                tree.files.push(name);
            }
        }
        tree
    }

    pub(super) fn build(&self, root: &Path, tool: &[u8]) {
        for directory in &self.directories {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in &self.files {
            let (path, is_tool) = (root.join(file), file.ends_with("tool"));
            let contents = file.as_os_str().as_encoded_bytes();
            std::fs::write(&path, if is_tool { tool } else { contents }).unwrap();
            let mode = if is_tool { 0o755 } else { 0o644 };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        for (file, name) in &self.hard_links {
            std::fs::hard_link(root.join(file), root.join(name)).unwrap();
        }
        for (name, target) in &self.links {
            symlink(target, root.join(name)).unwrap();
        }
    }

    /// A path in the tree that may or may not exist, without `.` and `..`.
    pub(super) fn any_path(&self, random: &mut Random) -> String {
        let directory = random.pick(&self.directories);
        let path = match random.below(8) {
            0 => directory.clone(),
            1 | 2 if !self.files.is_empty() => random.pick(&self.files).clone(),
            3 => directory.join(random.pick(DIRECTORIES)),
            4 if !self.links.is_empty() => random.pick(&self.links).0.join(random.pick(FILES)),
            _ => directory.join(random.pick(FILES)),
        };
        path.to_str().unwrap().to_owned()
    }

    pub(super) fn rules(&self, random: &mut Random) -> Rules {
        let mut rules = Rules::default();
        rules.protect = !random.one_in(3);
        let directory = |random: &mut Random| random.pick(&self.directories).clone();
        for _ in 0..=random.below(3) {
            rules.write.push(directory(random));
        }
        for _ in 0..random.below(3) {
            rules.read.push(directory(random));
        }
        if random.one_in(2) {
            rules.execute.push(directory(random));
        }
        // Landlock grants a file by each of its names; which other names it has is nobody's to know.
        let single: Vec<_> = self
            .files
            .iter()
            .filter(|file| !self.hard_links.iter().any(|(linked, _)| linked == *file))
            .collect();
        if !single.is_empty() && random.one_in(3) {
            rules.write.push((*random.pick(&single)).clone());
            rules.read.push((*random.pick(&single)).clone());
        }
        for _ in 0..random.below(4) {
            match random.below(6) {
                0 => rules.forms.push(Form::Named(".env")),
                1 => rules.forms.push(Form::Ending(".pem")),
                2 => rules.forms.push(Form::EndingIn(directory(random), ".key")),
                3 => rules.forms.push(Form::Below("c", "x")),
                4 => rules.denied.push(directory(random)),
                _ => rules.denied.push(directory(random).join("x")),
            }
        }
        rules
    }
}

/// All that is below a directory: kind and mode, contents or target, links, attributes and times that
/// were set.
pub(super) fn listing(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let file = path.symlink_metadata().unwrap();
            let shown = if file.is_dir() {
                ahead.push(path.clone());
                String::new()
            } else if file.is_symlink() {
                path.read_link().unwrap().display().to_string().replace(root.to_str().unwrap(), "")
            } else {
                match file.len() {
                    0..=4096 => {
                        String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()
                    }
                    long => format!("{long} bytes"),
                }
            };
            let links = if file.is_dir() { 0 } else { file.nlink() };
            let set = if file.mtime() == 2000 { "set" } else { "" };
            let name = path.strip_prefix(root).unwrap().display();
            found.push(format!("{name} {:o} {links} {set} {shown}", file.mode()));
        }
    }
    found.sort();
    found
}
