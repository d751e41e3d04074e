//! What the rules say of something that has not been attempted.

use std::path::{Path, PathBuf};

use crate::blueprint::Blueprint;
use crate::capabilities::Network;
use crate::error::Result;
use crate::event::Operation;
use crate::judge::{Judge, Judgement, Reason, Right};
use crate::policy;
use crate::sandbox::{Options, Sandbox};
use crate::suggestion::{self, Suggestion};
use crate::{Capabilities, executable};

/// What is asked about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Question {
    /// A right to an absolute path, which need not exist.
    Path(PathBuf, Right),
    /// Starting a program: an absolute path, or a name to look up.
    Exec(PathBuf),
    /// A TCP connection. Which hosts a gate lets through is the gate's to say.
    Connect(u16),
    /// Connecting to a unix socket of the host.
    UnixSocket(PathBuf),
    /// Whether commands see a variable of the owner's environment.
    Environment(String),
}

/// The answer: what the sandbox would say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether the sandbox would let it pass. The file's own permissions, say, can still refuse it.
    pub allowed: bool,
    /// The path without symbolic links, where it is about one.
    pub path: Option<PathBuf>,
    /// The grant that allows it, or the rule that refuses it, in words.
    pub rule: String,
    /// What would change a refusal.
    pub suggestion: Option<Suggestion>,
}

/// Answers a question about capabilities without building a sandbox or starting anything, by the
/// code that judges in the sandbox.
///
/// ```
/// use nono::{Capabilities, Options, Question, Right, explain};
///
/// # fn main() -> nono::Result<()> {
/// let capabilities = Capabilities::new().allow_read("/etc/hostname");
/// let question = Question::Path("/etc/shadow".into(), Right::Read);
/// assert!(!explain(&capabilities, &Options::default(), &question)?.allowed);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The same as [`Blueprint::draw`], and an error about the path or program in question if it is
/// wrong.
pub fn explain(
    capabilities: &Capabilities,
    options: &Options,
    question: &Question,
) -> Result<Explanation> {
    Blueprint::draw(capabilities, options)?.judge().explain(question)
}

impl Sandbox {
    /// What this sandbox says of something that has not been attempted.
    ///
    /// # Errors
    /// An error about the path or program in question if it is wrong.
    pub fn explain(&self, question: &Question) -> Result<Explanation> {
        self.judge().explain(question)
    }
}

impl Judge {
    pub(crate) fn explain(&self, question: &Question) -> Result<Explanation> {
        match question {
            Question::Path(path, right) => {
                let path = policy::canonical_as_far_as_it_exists(path)?;
                let operation = match right {
                    Right::Read => Operation::Read,
                    Right::Write => Operation::Write,
                    Right::Execute => Operation::Execute,
                };
                let judgement = match path.metadata() {
                    Ok(file) => self.judge_object(&path, &file, *right).and_then(|rule| {
                        let is_other = rule == path && self.policy().is_replaced(&path, &file);
                        if is_other { self.grant_above(&path, *right) } else { Ok(rule) }
                    }),
                    Err(_) => self.judge(&path, *right),
                };
                Ok(explanation(judgement, path, operation))
            }
            Question::Exec(program) => {
                let search_path = self.policy().environment.search_path();
                let found = executable::look_up(program.as_os_str(), search_path)?;
                let path = policy::canonical(&found)?;
                Ok(explanation(self.judge(&path, Right::Execute), path, Operation::Execute))
            }
            Question::Connect(port) => Ok(self.connection(*port)),
            Question::UnixSocket(path) => Ok(self.unix_socket(path)),
            Question::Environment(name) => Ok(self.variable(name)),
        }
    }

    fn connection(&self, port: u16) -> Explanation {
        let (allowed, rule) = match &self.policy().network {
            Network::Open => (true, "the network is open".into()),
            Network::Gate { ports } if ports.contains(&port) || port == 53 => {
                (true, format!("port {port} leads to the gate, which decides by name"))
            }
            _ if self.policy().localhost_ports.contains(&port) => {
                (true, format!("port {port} leads to this machine's loopback, and nowhere else"))
            }
            Network::Blocked => (false, "the network is blocked".into()),
            Network::Gate { .. } => (false, format!("port {port} does not lead to the gate")),
        };
        Explanation { allowed, path: None, rule, suggestion: None }
    }

    fn unix_socket(&self, path: &Path) -> Explanation {
        let listed = path
            .metadata()
            .is_ok_and(|file| self.policy().unix_sockets.iter().any(|socket| socket.is(&file)));
        let rule = if listed {
            format!("unix socket {}", path.display())
        } else {
            "no grant lists this socket; those that commands bind themselves need none".into()
        };
        let suggestion = (!listed).then(|| Suggestion::UnixSocket(path.to_owned()));
        Explanation { allowed: listed, path: Some(path.to_owned()), rule, suggestion }
    }

    fn variable(&self, name: &str) -> Explanation {
        let allowed = self.policy().environment.has(name);
        let rule = if allowed { "it is passed on or set" } else { "no grant names this variable" };
        Explanation { allowed, path: None, rule: rule.into(), suggestion: None }
    }
}

fn explanation(judgement: Judgement, path: PathBuf, operation: Operation) -> Explanation {
    match judgement {
        Ok(grant) => Explanation {
            allowed: true,
            path: Some(path),
            rule: format!("granted by {}", grant.display()),
            suggestion: None,
        },
        Err(reason) => Explanation {
            allowed: false,
            suggestion: suggestion::for_path(&path, operation, &reason),
            path: Some(path),
            rule: reason.to_string(),
        },
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::NotGranted => formatter.write_str("nothing grants it"),
            Reason::Denied(rule) => write!(formatter, "denied by {rule}"),
            Reason::Protected(path) => {
                write!(formatter, "programs outside take orders from {}", path.display())
            }
        }
    }
}
