//! bind(): carried out on the caller's behalf where the supervisor gives sockets their addresses, else
//! judged and made by the kernel, whose rules about ports and files are the caller's.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::connect::{asked_address, asked_of_resolver, parked};
use super::files::{self, Files};
use super::internet::Internet;
use super::made::MadeSockets;
use super::notif::{Listener, Notification};
use super::process;
use super::record::{Account, Recorder};
use super::sockets::Sockets;
use crate::event::{Operation, Refusal, Target};
use crate::judge::Reason;
use crate::socket::{self, Errno, address};

/// Answers a bind().
pub(super) fn bind(
    listener: &Arc<Listener>,
    call: &Notification,
    sockets: &mut Sockets,
    files: &mut Files,
    recorder: &Recorder,
) {
    if let Some(answer) = asked_of_resolver(listener, call, sockets) {
        return listener.finish(call, answer);
    }
    let found = asked_address(call).and_then(|asked| {
        let socket = sockets.of(call)?;
        parked(listener, call)?;
        Ok((asked, socket))
    });
    let (asked, socket) = match found {
        Ok(found) => found,
        Err(errno) => return listener.finish(call, Err(errno)),
    };
    let target = Target::Address(address::describe(&asked));
    let family = socket::family(&socket);
    let is_unix = family == Some(libc::AF_UNIX);
    if is_unix {
        note(&socket, sockets);
    }
    let operation = Operation::Bind;
    match (&mut sockets.internet, process::socket_path(&asked)) {
        _ if family == Some(libc::AF_NETLINK) => {
            let bound = socket::bind(&socket, &asked);
            if let Some(made) = &sockets.made {
                made.give_up(&socket);
            }
            listener.finish(call, bound);
        }
        // No such socket can be made: it was handed in, and Landlock checks it from ABI 4 on only.
        (Internet::Absent, _) if !is_unix => {
            let (errno, reason) = (libc::EACCES, Reason::NotGranted);
            let refused = Some(Refusal { layer: "supervisor", reason });
            recorder.tell(call, Account { operation, target, errno: Some(errno), refused });
            listener.finish(call, Err(errno));
        }
        (Internet::Led(led), _) if !is_unix => {
            let bound = match (led.bind(&socket, &asked), &sockets.made) {
                (Err(libc::EADDRINUSE), Some(made)) => {
                    bind_after_sweep(made, || led.bind(&socket, &asked))
                }
                (bound, _) => bound,
            };
            let errno = Some(bound.err().unwrap_or(0));
            recorder.tell(call, Account { operation, target, errno, refused: None });
            listener.finish(call, bound);
        }
        (_, Some(path)) if is_unix => {
            let (verdict, account) = files::bind(files, listener, call, path);
            recorder.tell(call, account);
            verdict.send(listener, call);
        }
        _ => {
            recorder.tell(call, Account { operation, target, errno: None, refused: None });
            listener.carry_on(call);
        }
    }
}

/// Takes note that a unix socket is one of the sandbox's, where others are in its namespace.
fn note(socket: &OwnedFd, sockets: &mut Sockets) {
    if !sockets.unix.has_own_namespace()
        && let Ok(cookie) = socket::cookie(socket)
    {
        sockets.unix.note(cookie, &sockets.diagnosis);
    }
}

/// The port may be that of a socket which only we have still, or, for a moment longer, a child of
/// ours on its way to execve.
fn bind_after_sweep(made: &MadeSockets, bind: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
    const ATTEMPTS: u32 = 300; // a child that is not scheduled holds it for as long
    if !made.sweep() {
        return Err(libc::EADDRINUSE);
    }
    for _ in 1..ATTEMPTS {
        match bind() {
            Err(libc::EADDRINUSE) => std::thread::sleep(Duration::from_millis(1)),
            other => return other,
        }
    }
    bind()
}
