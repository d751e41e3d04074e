//! What commands attempted, and what the rules say of what they have not.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use napi::bindgen_prelude::{Buffer, Either, Uint8Array};
use napi_derive::napi;
use nono::{Event, Explanation, Lost, Process, Question, Reason, Right, Suggestion, Target};

use crate::convert::{NativePath, os_string};

/// Text, or the bytes of what is not UTF-8.
type NativeText = Either<String, Buffer>;

/// One attempt.
#[napi(object)]
pub struct NativeEvent {
    /// What was attempted.
    #[napi(
        ts_type = "\"read\" | \"write\" | \"create\" | \"make-directory\" | \"symlink\" | \"link\" | \"rename\" | \"delete\" | \"attributes\" | \"execute\" | \"connect\" | \"bind\" | \"listen\" | \"system-call\" | \"exit\""
    )]
    pub operation: String,
    /// The path as the kernel names it.
    pub path: Option<Either<String, Buffer>>,
    /// The path as the command named it.
    pub asked: Option<Either<String, Buffer>>,
    /// The second path of a rename or link.
    pub to: Option<Either<String, Buffer>>,
    /// The address of a socket.
    pub address: Option<String>,
    /// The name of a system call.
    pub system_call: Option<String>,
    /// The code that a process ends with.
    pub exit_code: Option<u8>,
    /// How the kernel answered; absent: it went on unseen.
    pub errno: Option<i32>,
    /// Whether it was let through on somebody's word.
    pub approved: bool,
    /// Which rule refused it, if one did.
    pub refused: Option<NativeRefusal>,
    /// Who attempted it: a place in the `processes` that came with it.
    pub process: u32,
    /// How many attempts it stands for.
    pub count: f64,
    /// Milliseconds since 1970.
    pub time: f64,
    /// Milliseconds since the machine started.
    pub monotonic: f64,
}

/// The rule that refused an attempt.
#[napi(object)]
pub struct NativeRefusal {
    /// What did.
    #[napi(ts_type = "\"landlock\" | \"mounts\" | \"supervisor\" | \"seccomp\"")]
    pub layer: String,
    /// Why.
    #[napi(ts_type = "\"not-granted\" | \"denied\" | \"protected\"")]
    pub reason: String,
    /// The same in words.
    pub rule: String,
    /// What would let it pass.
    pub suggestion: Option<NativeSuggestion>,
}

/// A change of capabilities.
#[napi(object)]
pub struct NativeSuggestion {
    /// Which capability.
    #[napi(ts_type = "\"read\" | \"write\" | \"exec\" | \"unixSockets\" | \"network\" | \"deny\"")]
    pub capability: String,
    /// The value to add; of `deny`, the one to take out.
    pub value: Either<String, Buffer>,
}

/// A process inside.
#[napi(object)]
pub struct NativeProcess {
    /// Its number outside.
    pub pid: i32,
    /// The number of the command that it descends from; 0: not known.
    pub command: i32,
    /// The number of its session's leader; 0: not known.
    pub session: i32,
    /// Its program.
    pub executable: Either<String, Buffer>,
    /// Its arguments.
    pub arguments: Vec<Either<String, Buffer>>,
    /// Its working directory.
    pub cwd: Either<String, Buffer>,
    /// The programs of its parents.
    pub chain: Vec<Either<String, Buffer>>,
    /// Places in its code.
    pub frames: Vec<String>,
}

/// Events that were waiting.
#[napi(object)]
pub struct NativeEvents {
    /// How many were taken.
    pub taken: u32,
    /// The oldest of those that somebody wants to see.
    pub events: Vec<NativeEvent>,
    /// The processes that these are of. Objects are dear, and most events are of a few.
    pub processes: Vec<NativeProcess>,
    /// How many allowed attempts were lost before them.
    pub lost_allowed: f64,
    /// How many refused ones.
    pub lost_refused: f64,
}

/// A question about the rules: exactly one member.
#[napi(object)]
pub struct NativeQuestion {
    /// A path …
    pub path: Option<Either<String, Uint8Array>>,
    /// … and what is wanted of it.
    #[napi(ts_type = "\"read\" | \"write\" | \"execute\"")]
    pub access: Option<String>,
    /// A program.
    pub exec: Option<Either<String, Uint8Array>>,
    /// A TCP port.
    pub port: Option<u16>,
    /// A unix socket.
    pub unix_socket: Option<Either<String, Uint8Array>>,
    /// A variable.
    pub env: Option<String>,
}

/// The answer.
#[napi(object)]
pub struct NativeExplanation {
    /// Whether it would pass.
    pub allowed: bool,
    /// The path without symbolic links.
    pub path: Option<Either<String, Buffer>>,
    /// The rule, in words.
    pub rule: String,
    /// What would let it pass.
    pub suggestion: Option<NativeSuggestion>,
}

fn text(text: impl AsRef<OsStr>) -> NativeText {
    match text.as_ref().to_str() {
        Some(text) => Either::A(text.to_owned()),
        None => Either::B(text.as_ref().as_bytes().to_vec().into()),
    }
}

pub(crate) fn events(events: &[Event], lost: Lost) -> NativeEvents {
    let mut places = HashMap::new();
    let mut processes = Vec::new();
    let mut place = |process: &Arc<Process>| {
        *places.entry(Arc::as_ptr(process)).or_insert_with(|| {
            processes.push(self::process(process));
            processes.len() as u32 - 1
        })
    };
    let taken = events.len() as u32;
    let events = events.iter().map(|event| self::event(event, place(&event.process))).collect();
    let (lost_allowed, lost_refused) = (lost.allowed as f64, lost.refused as f64);
    NativeEvents { taken, events, processes, lost_allowed, lost_refused }
}

fn process(process: &Process) -> NativeProcess {
    NativeProcess {
        pid: process.pid,
        command: process.command,
        session: process.session,
        executable: text(&process.executable),
        arguments: process.arguments.iter().map(text).collect(),
        cwd: text(&process.cwd),
        chain: process.chain.iter().map(text).collect(),
        frames: process.frames.clone(),
    }
}

fn event(event: &Event, process: u32) -> NativeEvent {
    let mut native = NativeEvent {
        operation: event.operation.as_str().into(),
        path: None,
        asked: None,
        to: None,
        address: None,
        system_call: None,
        exit_code: None,
        errno: event.errno,
        approved: event.approved,
        refused: None,
        process,
        count: event.count as f64,
        time: event.time.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64() * 1e3),
        monotonic: event.monotonic.as_secs_f64() * 1e3,
    };
    match &event.target {
        Target::Path { path, asked, to } => {
            native.path = Some(text(path));
            native.asked = Some(text(asked));
            native.to = to.as_ref().map(text);
        }
        Target::Address(address) => native.address = Some(address.clone()),
        Target::SystemCall(name) => native.system_call = Some(name.clone()),
        Target::ExitCode(code) => native.exit_code = Some(*code),
    }
    native.refused = event.refused.as_ref().map(|refusal| NativeRefusal {
        layer: refusal.layer.into(),
        reason: match refusal.reason {
            Reason::NotGranted => "not-granted",
            Reason::Denied(_) => "denied",
            Reason::Protected(_) => "protected",
        }
        .into(),
        rule: refusal.reason.to_string(),
        suggestion: event.suggestion().and_then(|suggestion| self::suggestion(&suggestion)),
    });
    native
}

fn suggestion(suggestion: &Suggestion) -> Option<NativeSuggestion> {
    let with = |capability: &str, value: NativeText| {
        Some(NativeSuggestion { capability: capability.into(), value })
    };
    match suggestion {
        Suggestion::Read(path) => with("read", text(path)),
        Suggestion::Write(path) => with("write", text(path)),
        Suggestion::Exec(path) => with("exec", text(path)),
        Suggestion::UnixSocket(path) => with("unixSockets", text(path)),
        Suggestion::Network(host) => with("network", text(host)),
        Suggestion::RemoveDeny(rule) => with("deny", text(rule)),
        _ => None,
    }
}

pub(crate) fn question(given: NativeQuestion) -> nono::Result<Question> {
    let path = |path: NativePath| Path::new(&os_string(path)).to_owned();
    let right = match given.access.as_deref() {
        None | Some("read") => Right::Read,
        Some("write") => Right::Write,
        _ => Right::Execute,
    };
    match given {
        NativeQuestion { path: Some(asked), .. } => Ok(Question::Path(path(asked), right)),
        NativeQuestion { exec: Some(program), .. } => Ok(Question::Exec(path(program))),
        NativeQuestion { port: Some(port), .. } => Ok(Question::Connect(port)),
        NativeQuestion { unix_socket: Some(socket), .. } => Ok(Question::UnixSocket(path(socket))),
        NativeQuestion { env: Some(name), .. } => Ok(Question::Environment(name)),
        _ => Err(nono::Error::InvalidCapabilities {
            field: "request",
            reason: "it asks about nothing".into(),
        }),
    }
}

pub(crate) fn explanation(explanation: Explanation) -> NativeExplanation {
    NativeExplanation {
        allowed: explanation.allowed,
        path: explanation.path.map(text),
        rule: explanation.rule,
        suggestion: explanation.suggestion.and_then(|suggestion| self::suggestion(&suggestion)),
    }
}
