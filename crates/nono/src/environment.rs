//! The environment of commands: an allow-list, never the owner's as a whole.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::capabilities::EnvironmentGrant;
use crate::error::{Error, Result};

/// Passed on by default: they say who and where, and carry no secrets.
const PASSED_ON: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_*", "TERM", "COLORTERM", "TZ"];

/// What commands find when the owner has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The variables that every command of a sandbox gets.
#[derive(Clone, Debug)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Picks what is granted out of the owner's environment.
    pub(crate) fn new(
        grant: &EnvironmentGrant,
        owner: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self> {
        for name in &grant.allow {
            let stem = name.strip_suffix('*').unwrap_or(name);
            check_name(OsStr::new(if stem.is_empty() && name == "*" { "_" } else { stem }))?;
        }
        let granted = |name: &OsStr| {
            let patterns = PASSED_ON.iter().copied().chain(grant.allow.iter().map(String::as_str));
            patterns.into_iter().any(|pattern| matches(pattern, name))
        };
        let mut variables: BTreeMap<_, _> = owner.filter(|(name, _)| granted(name)).collect();
        variables.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
        let mut environment = Environment(variables);
        environment.set(&grant.set)?;
        Ok(environment)
    }

    /// Adds or replaces variables.
    pub(crate) fn set(&mut self, variables: &BTreeMap<OsString, OsString>) -> Result<()> {
        for (name, value) in variables {
            check_name(name)?;
            if value.as_bytes().contains(&0) {
                return Err(Error::InvalidEnv { name: name.clone(), reason: "NUL in its value" });
            }
            self.0.insert(name.clone(), value.clone());
        }
        Ok(())
    }

    /// Sets a variable that is not there.
    pub(crate) fn set_default(&mut self, name: &str, value: &str) {
        self.0.entry(name.into()).or_insert_with(|| value.into());
    }

    /// Tells C libraries that DNS is asked over TCP (`resolv.conf(5)`, `use-vc`).
    pub(crate) fn ask_dns_over_tcp(&mut self) {
        let options = self.0.entry("RES_OPTIONS".into()).or_default();
        if !options.is_empty() {
            options.push(" ");
        }
        options.push("use-vc");
    }

    /// Whether commands see this variable.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(OsStr::new(name))
    }

    /// Where programs are looked up.
    pub(crate) fn search_path(&self) -> &OsStr {
        self.0.get(OsStr::new("PATH")).map_or(OsStr::new(DEFAULT_PATH), |path| path)
    }

    /// `NAME=value` strings.
    pub(crate) fn entries(&self) -> Vec<CString> {
        let entry = |(name, value): (&OsString, &OsString)| {
            let mut bytes = name.clone().into_vec();
            bytes.push(b'=');
            bytes.extend_from_slice(value.as_bytes());
            CString::new(bytes).ok() // an environment cannot hold NUL
        };
        self.0.iter().filter_map(entry).collect()
    }
}

fn check_name(name: &OsStr) -> Result<()> {
    let reason = if name.is_empty() {
        "empty name"
    } else if name.as_bytes().iter().any(|byte| matches!(byte, 0 | b'=')) {
        "`=` or NUL in its name"
    } else {
        return Ok(());
    };
    Err(Error::InvalidEnv { name: name.to_owned(), reason })
}

fn matches(pattern: &str, name: &OsStr) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.as_bytes().starts_with(prefix.as_bytes()),
        None => name.as_bytes() == pattern.as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> impl Iterator<Item = (OsString, OsString)> {
        [("PATH", "/bin"), ("API_KEY", "secret"), ("LC_ALL", "C"), ("GIT_DIR", "x"), ("GIT_A", "y")]
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
    }

    fn entries(grant: &EnvironmentGrant) -> Vec<String> {
        let environment = Environment::new(grant, owner()).unwrap();
        environment.entries().iter().map(|entry| entry.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn passes_on_only_what_is_named() {
        assert_eq!(entries(&EnvironmentGrant::default()), ["LC_ALL=C", "PATH=/bin"]);
        let grant = EnvironmentGrant { allow: vec!["GIT_*".into()], ..Default::default() };
        assert_eq!(entries(&grant), ["GIT_A=y", "GIT_DIR=x", "LC_ALL=C", "PATH=/bin"]);
    }

    #[test]
    fn refuses_names_that_would_become_something_else() {
        for name in ["", "A=B", "A\0B"] {
            let set = [(OsString::from(name), OsString::from("v"))].into();
            let grant = EnvironmentGrant { set, ..Default::default() };
            let refused = Environment::new(&grant, owner()).unwrap_err();
            assert_eq!(refused.code(), "ERR_NONO_INVALID_ENV");
        }
    }
}
