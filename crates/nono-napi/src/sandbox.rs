//! Sandboxes: built and closed off the main thread, used on it.

use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use napi::bindgen_prelude::{AsyncTask, Function};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Env, Result, Task};
use napi_derive::napi;
use nono::{Blueprint, Sandbox, Status};

use crate::approval::{self, Asked};
use crate::convert::{self, NativeCapabilities, NativeOptions};
use crate::error;
use crate::event::{self, NativeEvents, NativeExplanation, NativeQuestion};
use crate::process::{self, NativeChild, NativeCommand};

/// One promise of a sandbox.
#[napi(object)]
pub struct NativeGuarantee {
    /// A stable name.
    pub name: String,
    /// `enforced`, `partial` or `absent`.
    #[napi(ts_type = "\"enforced\" | \"partial\" | \"absent\"")]
    pub status: String,
    /// What keeps it.
    pub mechanism: String,
    /// Why it is not kept in full.
    pub reason: Option<String>,
}

/// An internet address with its port.
#[napi(object)]
pub struct NativeAddress {
    /// In IPv4 or IPv6, as text.
    pub address: String,
    /// The port.
    pub port: u16,
}

/// A socket at which connections or DNS queries of a sandbox arrive.
#[napi(object)]
pub struct NativeListener {
    /// The port it listens on.
    pub port: u16,
    /// Of IPv4 or IPv6.
    #[napi(ts_type = "4 | 6")]
    pub family: u8,
    /// A listening TCP socket or a UDP socket.
    #[napi(ts_type = "\"tcp\" | \"udp\"")]
    pub protocol: String,
    /// What arrives there.
    #[napi(ts_type = "\"connections\" | \"dns\"")]
    pub purpose: String,
    /// The socket.
    pub fd: i32,
}

impl From<&nono::Guarantee> for NativeGuarantee {
    fn from(guarantee: &nono::Guarantee) -> Self {
        let status = match guarantee.status {
            Status::Enforced => "enforced",
            Status::Partial => "partial",
            Status::Absent => "absent",
        };
        NativeGuarantee {
            name: guarantee.name.into(),
            status: status.into(),
            mechanism: guarantee.mechanism.into(),
            reason: guarantee.reason.map(Into::into),
        }
    }
}

/// A way to build sandboxes.
#[napi(object)]
pub struct NativeTier {
    /// Its name.
    pub name: String,
    /// Whether it works here.
    pub available: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// What this machine offers.
#[napi(object)]
pub struct NativeSupport {
    /// Landlock's ABI version; 0: none.
    pub landlock_abi: i32,
    /// The kernel's release.
    pub kernel: String,
    /// Whether an ordinary user namespace can be made.
    pub user_namespaces: bool,
    /// Whether system calls can be answered by a supervisor.
    pub seccomp_notify: bool,
    /// Whether directories can be renamed in an overlay.
    pub privileged_overlay: bool,
    /// Ways to build sandboxes.
    pub tiers: Vec<NativeTier>,
}

/// Asks the kernel what it offers.
#[napi]
#[must_use]
pub fn support() -> NativeSupport {
    let support = nono::support();
    let tiers = support.tiers.into_iter().map(|tier| NativeTier {
        name: tier.name.as_str().into(),
        available: tier.unavailable.is_none(),
        reason: tier.unavailable,
    });
    NativeSupport {
        landlock_abi: support.landlock_abi,
        kernel: support.kernel,
        user_namespaces: support.user_namespaces,
        seccomp_notify: support.seccomp_notify,
        privileged_overlay: support.privileged_overlay,
        tiers: tiers.collect(),
    }
}

/// A sandbox that stands.
#[napi]
pub struct NativeSandbox {
    sandbox: Arc<Sandbox>,
}

#[napi]
impl NativeSandbox {
    /// The tier that was built.
    #[napi(getter, ts_return_type = "\"namespaces\" | \"flat\"")]
    pub fn tier(&self) -> &'static str {
        self.sandbox.tier().as_str()
    }

    /// Where the connection that came from `remote` to `local` was meant to go: told once.
    #[napi]
    pub fn destination(
        &self,
        local: NativeAddress,
        remote: NativeAddress,
    ) -> Option<NativeAddress> {
        let parse = |end: NativeAddress| Some(SocketAddr::new(end.address.parse().ok()?, end.port));
        let meant = self.sandbox.destination(parse(local)?, parse(remote)?)?;
        Some(NativeAddress { address: meant.ip().to_string(), port: meant.port() })
    }

    /// The sockets of the gate, once: the caller owns and closes them.
    #[napi]
    pub fn take_listeners(&self) -> Vec<NativeListener> {
        let native = |listener: nono::GateListener| NativeListener {
            port: listener.port,
            family: listener.family,
            protocol: if listener.stream { "tcp" } else { "udp" }.into(),
            purpose: if listener.dns { "dns" } else { "connections" }.into(),
            fd: listener.fd.into_raw_fd(),
        };
        self.sandbox.take_listeners().into_iter().map(native).collect()
    }

    /// Ports of the host at which servers inside are reached: pairs of the port inside and the host's.
    #[napi(getter, ts_return_type = "Array<[number, number]>")]
    pub fn published(&self) -> Vec<Vec<u32>> {
        let pair = |(inside, host): (&u16, &u16)| vec![u32::from(*inside), u32::from(*host)];
        self.sandbox.published().iter().map(pair).collect()
    }

    /// The process number of its init.
    #[napi(getter)]
    pub fn pid(&self) -> i32 {
        self.sandbox.init_pid()
    }

    /// What it promises.
    #[napi]
    pub fn guarantees(&self) -> Vec<NativeGuarantee> {
        self.sandbox.guarantees().iter().map(NativeGuarantee::from).collect()
    }

    /// Has `callback` called whenever events arrive where none were waiting.
    #[napi]
    pub fn on_events(&self, callback: Function<'_, (), ()>) -> Result<()> {
        let callback = callback.build_threadsafe_function().weak::<true>().build()?;
        self.sandbox.events().on_arrival(move || {
            callback.call((), ThreadsafeFunctionCallMode::NonBlocking);
        });
        Ok(())
    }

    /// Takes the oldest events, at most so many. Objects are made of the refused ones only if nobody wants
    /// to see the others.
    #[napi]
    pub fn take_events(&self, most: u32, only_refused: bool) -> NativeEvents {
        let (mut events, lost) = self.sandbox.events().take(most as usize);
        let taken = events.len() as u32;
        events.retain(|event| !only_refused || event.refused.is_some());
        NativeEvents { taken, ..event::events(&events, lost) }
    }

    /// How many attempts were refused so far.
    #[napi]
    pub fn refused(&self) -> f64 {
        self.sandbox.events().refused() as f64
    }

    /// What the rules say of something that has not been attempted.
    #[napi]
    pub fn explain(&self, question: NativeQuestion) -> Result<NativeExplanation> {
        event::question(question)
            .and_then(|question| self.sandbox.explain(&question))
            .map(event::explanation)
            .map_err(|failure| error::to_napi(&failure))
    }

    /// Starts a command; returns at once.
    #[napi]
    pub fn spawn(&self, command: NativeCommand) -> Result<NativeChild> {
        process::spawn(&self.sandbox, command)
    }

    /// Kills everything inside and waits until it is gone.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close(&self) -> AsyncTask<Close> {
        AsyncTask::new(Close(self.sandbox.clone()))
    }
}

/// What a sandbox with these capabilities would say of something; none is built.
#[napi]
pub fn explain(
    capabilities: NativeCapabilities,
    options: NativeOptions,
    question: NativeQuestion,
) -> Result<NativeExplanation> {
    let explain = || {
        let capabilities = convert::capabilities(capabilities)?;
        nono::explain(&capabilities, &convert::options(options)?, &event::question(question)?)
    };
    explain().map(event::explanation).map_err(|failure| error::to_napi(&failure))
}

/// Restricts this process, for good.
#[napi]
pub fn restrict_self(
    capabilities: NativeCapabilities,
    allow_degraded: Vec<String>,
) -> Result<Vec<NativeGuarantee>> {
    let restrict = || nono::restrict_self(&convert::capabilities(capabilities)?, &allow_degraded);
    let guarantees = restrict().map_err(|failure| error::to_napi(&failure))?;
    Ok(guarantees.iter().map(NativeGuarantee::from).collect())
}

/// Builds a sandbox.
#[napi(ts_return_type = "Promise<NativeSandbox>")]
pub fn create_sandbox(
    capabilities: NativeCapabilities,
    options: NativeOptions,
    #[napi(ts_arg_type = "((asked: NativeEvents, request: NativeRequest) => void) | undefined")]
    on_request: Option<Function<'_, Asked, ()>>,
) -> Result<AsyncTask<Create>> {
    let approver = on_request.as_ref().map(approval::approver).transpose()?;
    let draw = || {
        let capabilities = convert::capabilities(capabilities)?;
        let options = nono::Options { approver, ..convert::options(options)? };
        Blueprint::draw(&capabilities, &options)
    };
    let blueprint = draw().map_err(|failure| error::to_napi(&failure))?;
    Ok(AsyncTask::new(Create(Some(blueprint))))
}

/// Building, on a worker thread.
pub struct Create(Option<Blueprint>);

impl Task for Create {
    type Output = Sandbox;
    type JsValue = NativeSandbox;

    fn compute(&mut self) -> Result<Sandbox> {
        let blueprint = self.0.take().ok_or_else(|| napi::Error::from_reason("built twice"))?;
        blueprint.build().map_err(|failure| error::to_napi(&failure))
    }

    fn resolve(&mut self, _: Env, sandbox: Sandbox) -> Result<NativeSandbox> {
        Ok(NativeSandbox { sandbox: Arc::new(sandbox) })
    }
}

/// Closing, on a worker thread.
pub struct Close(Arc<Sandbox>);

impl Task for Close {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> Result<()> {
        self.0.close();
        // The callback holds the JavaScript object that holds this sandbox.
        self.0.events().forget_arrival();
        Ok(())
    }

    fn resolve(&mut self, _: Env, (): ()) -> Result<()> {
        Ok(())
    }
}
