//! Run a command with exactly the capabilities you declare, enforced by the Linux kernel.
//!
//! Declare [`Capabilities`], build a [`Sandbox`] from them, and spawn [`Command`]s in it. A sandbox
//! is a set of kernel objects (a Landlock domain, a seccomp filter, no capabilities) that every
//! command is born into; nothing can widen it afterwards, neither the commands nor you.
//!
//! ```no_run
//! use nono::{Capabilities, Command, Options, Sandbox};
//!
//! # fn main() -> nono::Result<()> {
//! let capabilities = Capabilities::new()
//!     .allow_read("/workspace")
//!     .allow_write("/workspace/output")
//!     .allow_exec("python3");
//! let sandbox = Sandbox::create(&capabilities, &Options::default())?;
//! let exit = sandbox.spawn(Command::new(["python3", "/workspace/agent.py"]))?.wait();
//! println!("{}", exit.status);
//! # Ok(())
//! # }
//! ```
//!
//! What this machine can enforce is not guessed: [`support()`] asks the kernel,
//! [`Sandbox::guarantees`] says what is in force and by which mechanism, and a policy that cannot be
//! enforced is refused by name ([`Error::UnsupportedPolicy`]).
#![cfg(target_os = "linux")]

mod ancestry;
mod approval;
mod blueprint;
mod born;
mod capabilities;
mod cgroup;
mod channel;
mod child;
mod command;
mod descriptor;
mod environment;
mod error;
mod event;
mod executable;
mod explain;
mod fold;
mod gate;
mod git_config;
mod guarantees;
mod held;
mod judge;
mod launch;
mod led;
mod limits;
mod links;
mod loopback;
mod mount_namespace;
mod mountinfo;
mod overlay;
mod pattern;
mod payload;
mod plan;
mod policy;
mod private_tmp;
mod profile;
mod protected;
mod reactor;
mod relay;
mod restrict;
mod ruleset;
mod sandbox;
mod seccomp;
mod short_name;
mod socket;
mod stage;
mod suggestion;
mod supervisor;
mod support;
mod terminal;
mod tier;
mod user_namespace;

pub use approval::{Approver, Request};
pub use blueprint::Blueprint;
pub use capabilities::{Capabilities, Limits, Network};
pub use child::{Callbacks, Child, CommandHandle, Exit, Limit, Usage};
pub use command::Command;
pub use error::{Error, Result};
pub use event::{Event, Events, Lost, Observe, Operation, Process, Refusal, Target};
pub use explain::{Explanation, Question, explain};
pub use gate::GateListener;
pub use guarantees::{Guarantee, Status};
pub use judge::{Reason, Right};
pub use overlay::OverlayMount;
pub use restrict::restrict_self;
pub use sandbox::{Options, Sandbox};
pub use suggestion::Suggestion;
pub use support::{Support, Tier, support};
pub use terminal::{Terminal, TerminalSize};
pub use tier::TierName;
