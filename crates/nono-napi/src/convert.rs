//! JavaScript's plain objects as the `nono` crate's types.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use napi::bindgen_prelude::{Either, Uint8Array};
use napi_derive::napi;
use nono::{
    Capabilities, Error, Limits, Network, Observe, Options, OverlayMount, Result, TierName,
};

/// A path: text, or the bytes of one that is not UTF-8.
pub(crate) type NativePath = Either<String, Uint8Array>;

/// What commands may do.
#[napi(object)]
#[derive(Default)]
pub struct NativeCapabilities {
    /// Files and directories to read.
    pub read: Option<Vec<Either<String, Uint8Array>>>,
    /// Files and directories to read and modify.
    pub write: Option<Vec<Either<String, Uint8Array>>>,
    /// Programs and directories of programs to execute.
    pub exec: Option<Vec<Either<String, Uint8Array>>>,
    /// Paths and patterns to refuse inside what is allowed.
    pub deny: Option<Vec<Either<String, Uint8Array>>>,
    /// Whether names that programs outside obey stay as they are; default true.
    pub protect: Option<bool>,
    /// Directories to modify that nobody outside uses.
    pub scratch: Option<Vec<Either<String, Uint8Array>>>,
    /// `blocked` (default), `gate` or `open`.
    #[napi(ts_type = "\"blocked\" | \"gate\" | \"open\"")]
    pub network: Option<String>,
    /// With `gate`: TCP ports that programs may connect to.
    pub gate_ports: Option<Vec<u16>>,
    /// Ports of services on the host's loopback to connect to.
    pub localhost_ports: Option<Vec<u16>>,
    /// Ports of servers inside that the host reaches.
    pub publish: Option<Vec<u16>>,
    /// Unix sockets of the host to connect to.
    pub unix_sockets: Option<Vec<Either<String, Uint8Array>>>,
    /// Environment variables.
    pub env: Option<NativeEnv>,
    /// Resource limits.
    pub limits: Option<NativeLimits>,
    /// A `/tmp` of its own; default true.
    pub private_tmp: Option<bool>,
    /// The base system profile; default true.
    pub base_profile: Option<bool>,
}

/// Environment variables of all commands.
#[napi(object)]
pub struct NativeEnv {
    /// Names, or `PREFIX_*`, passed on from the owner.
    pub allow: Option<Vec<String>>,
    /// Variables to set.
    pub set: Option<HashMap<String, String>>,
}

/// Bounds on what commands may use.
#[napi(object)]
pub struct NativeLimits {
    /// Memory in bytes.
    pub memory: Option<f64>,
    /// Processes and threads.
    pub processes: Option<f64>,
    /// Processors.
    pub cpus: Option<f64>,
    /// Open files.
    pub open_files: Option<f64>,
    /// Largest file in bytes.
    pub file_size: Option<f64>,
    /// Processor time in seconds.
    pub cpu_seconds: Option<f64>,
    /// Time of a command in seconds.
    pub wall_seconds: Option<f64>,
}

/// A directory that commands write to through an overlay.
#[napi(object)]
pub struct NativeMount {
    /// The directory.
    pub target: Either<String, Uint8Array>,
    /// Where changes go.
    pub upper: Either<String, Uint8Array>,
    /// The kernel's own.
    pub work: Either<String, Uint8Array>,
}

/// How to build the sandbox.
#[napi(object)]
pub struct NativeOptions {
    /// Absent: the strongest that works.
    #[napi(ts_type = "\"namespaces\" | \"flat\"")]
    pub tier: Option<String>,
    /// Guarantees that may be missing.
    pub allow_degraded: Option<Vec<String>>,
    /// How much is told; default `changes`.
    #[napi(ts_type = "\"off\" | \"changes\" | \"all\"")]
    pub observe: Option<String>,
    /// Directories that commands write to through an overlay.
    pub mounts: Option<Vec<NativeMount>>,
}

pub(crate) fn os_string(path: NativePath) -> OsString {
    match path {
        Either::A(text) => OsString::from(text),
        Either::B(bytes) => OsString::from_vec(bytes.to_vec()),
    }
}

pub(crate) fn capabilities(given: NativeCapabilities) -> Result<Capabilities> {
    let paths = |list: Option<Vec<NativePath>>| {
        list.unwrap_or_default().into_iter().map(os_string).map(PathBuf::from)
    };
    let mut capabilities = Capabilities::new();
    for path in paths(given.read) {
        capabilities = capabilities.allow_read(path);
    }
    for path in paths(given.write) {
        capabilities = capabilities.allow_write(path);
    }
    for path in paths(given.exec) {
        capabilities = capabilities.allow_exec(path);
    }
    for port in given.localhost_ports.into_iter().flatten() {
        capabilities = capabilities.allow_localhost(port);
    }
    for port in given.publish.into_iter().flatten() {
        capabilities = capabilities.publish(port);
    }
    for path in paths(given.scratch) {
        capabilities = capabilities.allow_scratch(path);
    }
    for path in paths(given.unix_sockets) {
        capabilities = capabilities.allow_unix_socket(path);
    }
    for path in paths(given.deny) {
        capabilities = capabilities.deny(path);
    }
    for name in given.env.iter().flat_map(|env| env.allow.iter().flatten()) {
        capabilities = capabilities.allow_env(name);
    }
    for (name, value) in given.env.iter().flat_map(|env| env.set.iter().flatten()) {
        capabilities = capabilities.set_env(name, value);
    }
    if let Some(limits) = given.limits {
        capabilities = capabilities.limits(self::limits(&limits)?);
    }
    Ok(capabilities
        .network(network(given.network.as_deref(), given.gate_ports)?)
        .private_tmp(given.private_tmp.unwrap_or(true))
        .protect(given.protect.unwrap_or(true))
        .base_profile(given.base_profile.unwrap_or(true)))
}

pub(crate) fn options(given: NativeOptions) -> Result<Options> {
    let tier = match given.tier.as_deref() {
        None => None,
        Some("namespaces") => Some(TierName::Namespaces),
        Some("flat") => Some(TierName::Flat),
        Some(other) => {
            let reason = format!("{other:?} is not one of \"namespaces\" and \"flat\"");
            return Err(Error::InvalidCapabilities { field: "tier", reason });
        }
    };
    let observe = match given.observe.as_deref() {
        None | Some("changes") => Observe::Changes,
        Some("off") => Observe::Off,
        Some("all") => Observe::All,
        Some(other) => {
            let reason = format!("{other:?} is not one of \"off\", \"changes\" and \"all\"");
            return Err(Error::InvalidCapabilities { field: "observe", reason });
        }
    };
    let allow_degraded = given.allow_degraded.unwrap_or_default();
    let mounts = given.mounts.unwrap_or_default().into_iter().map(|mount| OverlayMount {
        target: os_string(mount.target).into(),
        upper: os_string(mount.upper).into(),
        work: os_string(mount.work).into(),
    });
    Ok(Options { tier, allow_degraded, observe, approver: None, mounts: mounts.collect() })
}

fn network(name: Option<&str>, ports: Option<Vec<u16>>) -> Result<Network> {
    match name {
        None | Some("blocked") => Ok(Network::Blocked),
        Some("gate") => Ok(Network::Gate { ports: ports.unwrap_or_else(|| vec![80, 443]) }),
        Some("open") => Ok(Network::Open),
        Some(other) => Err(Error::InvalidCapabilities {
            field: "network",
            reason: format!("{other:?} is not one of \"blocked\", \"gate\" and \"open\""),
        }),
    }
}

fn limits(given: &NativeLimits) -> Result<Limits> {
    /// The largest integer that every JavaScript number below it is exact to.
    const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;
    let whole = |value: Option<f64>| match value {
        None => Ok(None),
        Some(value) if value.fract() == 0.0 && (1.0..=MAX_SAFE_INTEGER).contains(&value) => {
            Ok(Some(value as u64))
        }
        Some(value) => Err(Error::InvalidCapabilities {
            field: "limits",
            reason: format!("{value} is not a positive whole number"),
        }),
    };
    let mut limits = Limits::default();
    limits.memory = whole(given.memory)?;
    limits.processes = whole(given.processes)?;
    limits.open_files = whole(given.open_files)?;
    limits.file_size = whole(given.file_size)?;
    limits.cpus = given.cpus;
    limits.cpu_seconds = whole(given.cpu_seconds)?;
    limits.wall_seconds =
        whole(given.wall_seconds)?.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
    Ok(limits)
}
