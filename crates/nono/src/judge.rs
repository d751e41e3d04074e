//! What a sandbox's rules say of an attempt: one piece of code that the supervisor acts on, that
//! [`crate::Sandbox::explain`] answers by, and that names the rule in each violation.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ancestry::upwards;
use crate::fold::folded;
use crate::pattern::Pattern;
use crate::policy::{Access, FileIdentity, Policy};
use crate::tier::TierName;
use crate::{protected, short_name};

/// What is wanted of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// Reading a file, or listing a directory.
    Read,
    /// Creating, changing, renaming or deleting it, its attributes included.
    Write,
    /// Executing it as a program.
    Execute,
}

/// Why something is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing grants it.
    NotGranted,
    /// A `deny` of the policy holds for it; this one.
    Denied(String),
    /// Programs outside take orders from this path, so it is not written to.
    Protected(PathBuf),
}

/// Whether a directory that would be private is the host's, since the policy grants it as a whole.
fn is_the_hosts(directory: &Path, policy: &Policy) -> bool {
    let is_granted = |place: &Path| place.parent().is_some() && policy.rules.contains_key(place);
    directory != Path::new("/proc") && upwards(directory).any(is_granted)
}

/// Allowed, by the rule of this path if it is one; or refused.
pub(crate) type Judgement = Result<PathBuf, Reason>;

/// The rules of one sandbox, for paths as the kernel names them.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    policy: Arc<Policy>,
    /// The paths that anything is granted for, as they are spelt.
    places: Arc<HashMap<OsString, Grant>>,
}

/// What a path is granted, with all below it.
#[derive(Clone, Copy, Debug, Default)]
struct Grant {
    /// By the policy.
    rule: Option<Access>,
    /// By the tier, as a private directory.
    private: Option<Access>,
}

impl Judge {
    pub(crate) fn new(policy: Arc<Policy>, tier: TierName) -> Self {
        let private: &[(&str, Access)] = match tier {
            TierName::Namespaces => &[
                ("/tmp", Access::WRITE),
                ("/dev/shm", Access::WRITE),
                ("/dev/pts", Access::DEVICE),
                ("/proc", Access::READ),
            ],
            TierName::Flat => &[],
        };
        let private = private
            .iter()
            .filter(|(path, _)| *path != "/tmp" || policy.private_tmp)
            .map(|(path, access)| (PathBuf::from(path), *access))
            .filter(|(path, _)| !is_the_hosts(path, &policy))
            .chain(
                policy
                    .private_tmp_at
                    .iter()
                    .chain(&policy.scratch)
                    .map(|path| (path.clone(), Access::WRITE)),
            );
        let mut places: HashMap<OsString, Grant> = HashMap::new();
        for (path, access) in private {
            places.entry(path.into()).or_default().private = Some(access);
        }
        for (path, access) in &policy.rules {
            places.entry(path.clone().into()).or_default().rule = Some(*access);
        }
        Judge { policy, places: Arc::new(places) }
    }

    /// What is granted for `path` by its own name.
    fn place(&self, path: &Path) -> Grant {
        self.places.get(path.as_os_str()).copied().unwrap_or_default()
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What the rules say of `path`, which must be canonical.
    pub(crate) fn judge(&self, path: &Path, right: Right) -> Judgement {
        if let Some(refusal) = self.refusal(path, right) {
            return Err(refusal);
        }
        self.grant(path, right)
    }

    /// The same of an object: a file that is denied by name is so by each of its names.
    pub(crate) fn judge_object(&self, path: &Path, file: &Metadata, right: Right) -> Judgement {
        if self.is_denied_file(file) {
            return Err(Reason::Denied(path.display().to_string()));
        }
        self.judge(path, right)
    }

    /// Whether any file is denied as an object, and not only by name.
    pub(crate) fn denies_files(&self) -> bool {
        !self.policy.denied_files.is_empty()
    }

    /// Whether it is a file that had a denied name when the sandbox was made.
    pub(crate) fn is_denied_file(&self, file: &Metadata) -> bool {
        self.denies_files() && self.policy.denied_files.contains(&FileIdentity::of(file))
    }

    /// What the rules say of making, moving or deleting the name `path`: it takes writing its
    /// directory, even if what has the name may be written itself.
    pub(crate) fn judge_name(&self, path: &Path) -> Judgement {
        if let Some(refusal) = self.refusal(path, Right::Write) {
            return Err(refusal);
        }
        self.grant(path.parent().unwrap_or(path), Right::Write)
    }

    /// The same for making a directory of that name: in git's own what is protected is so by its name.
    pub(crate) fn judge_new_directory(&self, path: &Path) -> Judgement {
        match self.refusal(path, Right::Write) {
            Some(Reason::Protected(part)) if self.repository(path) == Some(&part) => {}
            Some(refusal) => return Err(refusal),
            None => {}
        }
        self.grant(path.parent().unwrap_or(path), Right::Write)
    }

    /// `path`, if it is git's own of a repository that was granted. A file there says where git finds the
    /// settings that name programs; what makes other repositories, such as a submodule, writes one.
    fn repository<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let is_granted = path.parent().is_some_and(|top| self.policy.repositories.contains(top));
        (is_granted && folded(path).ends_with(".git")).then_some(path)
    }

    /// The same for deleting it. What is protected may be deleted: no program outside takes orders from
    /// what is not there.
    pub(crate) fn judge_removal(&self, path: &Path) -> Judgement {
        match self.refusal(path, Right::Write) {
            Some(reason @ Reason::Denied(_)) => Err(reason),
            _ => self.grant(path.parent().unwrap_or(path), Right::Write),
        }
    }

    /// What grants it if a rule for the path itself does not.
    pub(crate) fn grant_above(&self, path: &Path, right: Right) -> Judgement {
        path.parent().map_or(Err(Reason::NotGranted), |above| self.grant(above, right))
    }

    /// What grants it, leaving aside what is refused inside.
    fn grant(&self, path: &Path, right: Right) -> Judgement {
        let grants = |access: Access| match right {
            Right::Read => access.read,
            Right::Write => access.write,
            Right::Execute => access.execute,
        };
        // What a rule names below a private directory is the machine's, put back there.
        let mut is_put_back = false;
        upwards(path)
            .find(|above| {
                let Grant { rule, private } = self.place(above);
                is_put_back |= rule.is_some();
                rule.is_some_and(grants) || !is_put_back && private.is_some_and(grants)
            })
            .map(Path::to_owned)
            .ok_or(Reason::NotGranted)
    }

    /// What refuses `path` although it may be granted: neither Landlock nor mounts know of that.
    pub(crate) fn refusal(&self, path: &Path, right: Right) -> Option<Reason> {
        if let Some(pattern) = self.policy.deny.iter().find(|pattern| pattern.holds_for(path)) {
            return Some(Reason::Denied(pattern.to_string()));
        }
        if let Some(reason) = self.refusal_of_short_name(path, right) {
            return Some(reason);
        }
        if right != Right::Write || !self.policy.protect || self.is_private(path) {
            return None;
        }
        let part = protected::protected_part(path).or_else(|| self.repository(path))?;
        let is_granted_by_name = upwards(path)
            .take_while(|above| above.as_os_str().len() >= part.as_os_str().len())
            .any(|above| self.place(above).rule.is_some_and(|access| access.write));
        (!is_granted_by_name).then(|| Reason::Protected(part.to_owned()))
    }

    /// What refuses a name that may stand for another, which is denied or protected.
    fn refusal_of_short_name(&self, path: &Path, right: Right) -> Option<Reason> {
        let part = short_name::part(path, &self.policy.short_named)?;
        if let Some(pattern) = self.policy.deny.first() {
            return Some(Reason::Denied(pattern.to_string()));
        }
        (right == Right::Write && self.policy.protect).then(|| Reason::Protected(part.to_owned()))
    }

    /// Whether `path` is the sandbox's own matter: in a private directory, but for what the policy
    /// grants below it.
    fn is_private(&self, path: &Path) -> bool {
        upwards(path)
            .find_map(|above| {
                let Grant { rule, private } = self.place(above);
                let is_granted = rule.is_some_and(|access| access.write);
                (private.is_some() || is_granted).then_some(private.is_some())
            })
            .unwrap_or(false)
    }

    /// What keeps a directory or symbolic link from being moved away from `path`, or put there: the
    /// name is part of what a rule holds for.
    pub(crate) fn refusal_to_move(&self, path: &Path) -> Option<Reason> {
        if let Some(pattern) = self.policy.deny.iter().find(|deny| deny.is_led_to_by(path)) {
            return Some(Reason::Denied(pattern.to_string()));
        }
        match (self.is_private(path), self.policy.protect) {
            // Under another name it would be the sandbox's own matter, too.
            (true, _) => self.leads_to_writable_place(path).then_some(Reason::NotGranted),
            (false, protect) => (protect && protected::leads_to_protected(path))
                .then(|| Reason::Protected(path.to_owned())),
        }
    }

    /// Whether the policy lets a place below `path` be written.
    fn leads_to_writable_place(&self, path: &Path) -> bool {
        let from = (Bound::Excluded(path), Bound::Unbounded);
        let mut below = self.policy.rules.range::<Path, _>(from);
        below
            .by_ref()
            .take_while(|(place, _)| place.starts_with(path))
            .any(|(_, access)| access.write && !access.device)
    }

    /// Whether moving a directory from one path to the other would bring names along that are
    /// protected there and were not here.
    pub(crate) fn protects_more(&self, from: &Path, to: &Path) -> bool {
        let is_open = |path: &Path| protected::is_dependency(path) || self.is_private(path);
        self.policy.protect && is_open(from) && !is_open(to)
    }

    /// Whether a file may be put at `path` if it names no new programs.
    pub(crate) fn is_git_configuration(&self, path: &Path) -> bool {
        self.policy.protect
            && protected::is_git_configuration(path)
            && !self.policy.deny.iter().any(|pattern: &Pattern| pattern.holds_for(path))
    }
}
