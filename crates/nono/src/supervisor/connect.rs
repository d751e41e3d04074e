//! connect() and listen(), carried out on the caller's behalf where a decision is made.
//!
//! Landlock does not judge the path of a unix socket, and a filter cannot read an address. So every
//! connect() is parked, its address copied once, its socket duplicated, and the call is then made
//! here, on the duplicate, with the copy: nothing that the caller changes meanwhile, neither memory
//! nor what a descriptor's number stands for, has any part in it. That holds for internet sockets
//! too where nothing is decided about them: letting such a call carry on would let another thread
//! put a unix socket under the same number in between.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

use super::internet::{Internet, Lead};
use super::made::MadeSockets;
use super::notif::{Listener, Notification};
use super::process;
use super::record::{Account, Given, Recorder};
use super::seats::Seats;
use super::sockets::Sockets;
use crate::event::{Operation, Refusal, Target};
use crate::judge::Reason;
use crate::socket::{self, Errno, address};

/// `struct sockaddr_storage`, the longest address that there is.
const MAX_ADDRESS: usize = 128;

/// What becomes of a connect().
pub(super) enum Reply {
    /// It is made already, or refused.
    Made(Result<(), Errno>),
    /// It may be made, and can take long.
    Waits(Box<Connection>),
    /// A rule refuses it; what would be made on somebody's word, if that is possible.
    Refused(Errno, Option<Box<Connection>>),
}

/// Carries a connect() out, if it may be. What is told about it is told before it is answered.
pub(super) fn connect(
    listener: &Listener,
    call: &Notification,
    sockets: &Sockets,
) -> (Option<Account>, Reply) {
    if let Some(answer) = asked_of_resolver(listener, call, sockets) {
        return (None, Reply::Made(answer));
    }
    let asked = match ask(listener, call, sockets) {
        Ok(asked) => asked,
        Err(errno) => return (None, Reply::Made(Err(errno))), // it is no connection yet
    };
    let account = |errno, refused| Account {
        operation: Operation::Connect,
        target: Target::Address(asked.name.clone()),
        errno,
        refused,
    };
    let disconnects = address::family(&asked.address) == Some(libc::AF_UNSPEC);
    match prepare(&asked, sockets) {
        Ok(connection) if disconnects => (None, Reply::Made(connection.make())),
        Ok(connection) => {
            let made = match connection.make_at_once() {
                Ok(made) => made,
                Err(waits) => return (Some(account(None, None)), Reply::Waits(waits)),
            };
            let errno = made.err().filter(|errno| *errno != libc::EINPROGRESS).unwrap_or(0);
            (Some(account(Some(errno), None)), Reply::Made(made))
        }
        Err(errno) => {
            let by_rule = matches!(errno, libc::EACCES | libc::EPERM)
                || errno == libc::ECONNREFUSED && sockets.leaves_out(&asked.address);
            let refusal = Refusal { layer: "supervisor", reason: Reason::NotGranted };
            if !by_rule {
                return (Some(account(Some(errno), None)), Reply::Made(Err(errno)));
            }
            let exception = exception(&asked, sockets).map(Box::new);
            (Some(account(Some(errno), Some(refusal))), Reply::Refused(errno, exception))
        }
    }
}

impl Reply {
    pub(super) fn send(self, listener: &Arc<Listener>, call: &Notification) {
        match self {
            Reply::Made(result) => listener.finish(call, result),
            Reply::Waits(connection) => wait_elsewhere(listener, call, *connection),
            Reply::Refused(errno, _) => listener.finish(call, Err(errno)),
        }
    }
}

/// The connection that a rule refuses: to the very socket whose file was found, or past the gate to
/// where the caller meant to go. In a network of its own a socket reaches nothing outside.
fn exception(asked: &Asked, sockets: &Sockets) -> Option<Connection> {
    let (lead, place) = match (&asked.place, &sockets.internet) {
        (Some(Ok(place)), _) => {
            let place = place.try_clone().ok()?;
            (by_descriptor(&place), Some(place))
        }
        (None, Internet::Led(_)) if asked.family != libc::AF_UNIX => {
            (Lead::to(asked.address.clone()), None)
        }
        _ => return None,
    };
    let socket = asked.socket.try_clone().ok()?;
    let seats = sockets.seats.clone();
    Some(Connection { socket, lead, seats, _place: place, made: sockets.made.clone() })
}

impl Connection {
    /// Makes it on somebody's word. Returns 0 or an errno, for the record, and what answers the call.
    pub(super) fn give(self) -> Given {
        let made = self.make();
        let errno = made.err().filter(|errno| *errno != libc::EINPROGRESS).unwrap_or(0);
        (Some(errno), Box::new(move |listener, call| listener.finish(call, made)))
    }
}

/// Carries a listen() out: an internet socket that was not bound would get an address of its own
/// then, and one that was made for the caller needs us no more.
pub(super) fn listen(
    listener: &Listener,
    call: &Notification,
    sockets: &mut Sockets,
    recorder: &Recorder,
) {
    let backlog = call.arguments[1] as i32;
    let found = sockets.of(call).and_then(|socket| parked(listener, call).map(|()| socket));
    let socket = match found {
        Ok(socket) => socket,
        Err(errno) => return listener.finish(call, Err(errno)),
    };
    let is_unix = socket::family(&socket) == Some(libc::AF_UNIX);
    // Whoever calls is the peer that connecting programs see (`SO_PEERCRED` in `unix(7)`).
    let made_by_kernel = is_unix && sockets.made.is_none();
    let listens = (!made_by_kernel).then(|| match &sockets.internet {
        Internet::Led(led) if !is_unix => led.listen(&socket, backlog),
        _ => socket::listen(&socket, backlog),
    });
    if let (Some(Ok(())), Some(made)) = (listens, &sockets.made) {
        made.give_up(&socket);
    }
    let name = socket::local_name(&socket).unwrap_or_default();
    let target = Target::Address(address::describe(&name));
    let errno = listens.map(|listens| listens.err().unwrap_or(0));
    recorder.tell(call, Account { operation: Operation::Listen, target, errno, refused: None });
    match listens {
        Some(listens) => listener.finish(call, listens),
        None => listener.carry_on(call),
    }
}

/// A connect() that may be made.
pub(super) struct Connection {
    socket: OwnedFd,
    lead: Lead,
    seats: Seats,
    /// The socket's file, which the address names by this descriptor.
    _place: Option<OwnedFd>,
    made: Option<MadeSockets>,
}

/// What a connect() asks for, copied once.
struct Asked {
    socket: OwnedFd,
    family: i32,
    address: Vec<u8>,
    /// The file that a path names.
    place: Option<Result<OwnedFd, Errno>>,
    /// For the record: an address with its port, or a path.
    name: String,
}

fn ask(listener: &Listener, call: &Notification, sockets: &Sockets) -> Result<Asked, Errno> {
    let address = asked_address(call)?;
    let socket = sockets.of(call)?;
    let family = socket::family(&socket).ok_or(libc::ENOTSOCK)?;
    let path = (family == libc::AF_UNIX && address::family(&address) == Some(libc::AF_UNIX))
        .then(|| process::socket_path(&address))
        .flatten();
    let place = path
        .map(|path| process::open_place(call.thread, path).map_err(|error| socket::errno(&error)));
    // Only now is it certain that all of the above was about the caller.
    parked(listener, call)?;
    let name = match (&place, path) {
        (Some(Ok(place)), _) => process::path_of(place),
        (_, Some(path)) => path.display().to_string(),
        _ => match address::parse(&address) {
            Some(internet) => {
                SocketAddr::new(internet.ip().to_canonical(), internet.port()).to_string()
            }
            None => address::describe(&address),
        },
    };
    Ok(Asked { socket, family, address, place, name })
}

fn prepare(asked: &Asked, sockets: &Sockets) -> Result<Connection, Errno> {
    let clone = |fd: &OwnedFd| fd.try_clone().map_err(|error| socket::errno(&error));
    let socket = clone(&asked.socket)?;
    let (lead, place) = match asked.family {
        libc::AF_UNIX => unix_address(asked, sockets)?,
        libc::AF_INET | libc::AF_INET6 if !sockets.diagnosis.is_beside(&socket) => {
            return Err(libc::EACCES);
        }
        // Where the network is the sandbox's own, nobody is there either.
        libc::AF_INET | libc::AF_INET6
            if sockets.leaves_out(&asked.address)
                && socket::tcp_state(&socket) == Some(socket::CLOSED) =>
        {
            return Err(libc::ECONNREFUSED);
        }
        libc::AF_INET | libc::AF_INET6 => match &sockets.internet {
            Internet::AsAsked => (Lead::to(asked.address.clone()), None),
            Internet::Led(led) => (led.connect(&socket, &asked.address, &sockets.diagnosis)?, None),
            // No such socket can be made: it was handed in. Landlock would refuse to connect it; here
            // it would not be asked.
            Internet::Absent => return Err(libc::EACCES),
        },
        _ => return Err(libc::EACCES),
    };
    let seats = sockets.seats.clone();
    Ok(Connection { socket, lead, seats, _place: place, made: sockets.made.clone() })
}

/// The answer to a call about a socket whose peer is the resolver.
pub(super) fn asked_of_resolver(
    listener: &Listener,
    call: &Notification,
    sockets: &Sockets,
) -> Option<Result<(), Errno>> {
    if sockets.queries.are_none() {
        return None;
    }
    let answer = sockets.queries.answer(call, &asked_address(call).ok()?)?;
    Some(parked(listener, call).and(answer))
}

/// The address that a call names, copied once.
pub(super) fn asked_address(call: &Notification) -> Result<Vec<u8>, Errno> {
    let [_, pointer, length, ..] = call.arguments;
    let length = length as i32; // an int to the kernel
    if !(0..=MAX_ADDRESS as i32).contains(&length) {
        return Err(libc::EINVAL);
    }
    process::read_memory(call.thread, pointer, length as usize)
        .map_err(|error| socket::errno(&error))
}

pub(super) fn parked(listener: &Listener, call: &Notification) -> Result<(), Errno> {
    if listener.is_parked(call) { Ok(()) } else { Err(libc::EINTR) }
}

fn unix_address(asked: &Asked, sockets: &Sockets) -> Result<(Lead, Option<OwnedFd>), Errno> {
    if socket::is_datagram(&asked.socket) {
        return Err(libc::EACCES);
    }
    if address::family(&asked.address) != Some(libc::AF_UNIX)
        || asked.address.len() > size_of::<libc::sockaddr_un>()
    {
        return Err(libc::EINVAL);
    }
    let Some(place) = &asked.place else {
        // An abstract name. It means something in the socket's own network namespace only, which is another
        // one if the socket was handed in.
        let known = sockets.unix.has_own_namespace() && sockets.diagnosis.is_beside(&asked.socket);
        let lead = Lead::to(asked.address.clone());
        return if known { Ok((lead, None)) } else { Err(libc::EPERM) };
    };
    let place = place.as_ref().map_err(|errno| *errno)?;
    let place = File::from(place.try_clone().map_err(|error| socket::errno(&error))?);
    let file = place.metadata().map_err(|error| socket::errno(&error))?;
    if !file.file_type().is_socket() {
        return Err(libc::ECONNREFUSED);
    }
    if !sockets.unix.allows(&file, &sockets.diagnosis) {
        return Err(libc::EACCES);
    }
    let place = OwnedFd::from(place);
    Ok((by_descriptor(&place), Some(place)))
}

/// The very file that was looked at, wherever its path leads by now.
fn by_descriptor(place: &OwnedFd) -> Lead {
    let mut address = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    address.extend(format!("/proc/self/fd/{}\0", place.as_raw_fd()).bytes());
    Lead::to(address)
}

impl Connection {
    /// Whether making it can take long. The flag is the caller's to change: then it stops its own
    /// supervisor, which nobody outside waits for.
    fn may_wait(&self) -> bool {
        // Connecting a datagram socket only notes the address.
        !socket::is_nonblocking(&self.socket) && !socket::is_datagram(&self.socket)
    }

    /// Makes it, unless that takes long: then it is given back.
    fn make_at_once(self) -> Result<Result<(), Errno>, Box<Self>> {
        if !self.may_wait() {
            return Ok(self.make());
        }
        match socket::connect_at_once(&self.socket, &self.lead.address) {
            Err(libc::EINPROGRESS | libc::EAGAIN) => Err(Box::new(self)),
            made => Ok(self.conclude(made)),
        }
    }

    fn make(self) -> Result<(), Errno> {
        let made = socket::connect(&self.socket, &self.lead.address);
        self.conclude(made)
    }

    fn conclude(self, made: Result<(), Errno>) -> Result<(), Errno> {
        if let Some((destinations, entry)) = self.lead.entry
            && !matches!(made, Ok(()) | Err(libc::EINPROGRESS))
        {
            destinations.take_back(entry);
        }
        if let Some(sockets) = self.made {
            match made {
                Ok(()) if socket::is_datagram(&self.socket) => {} // it may be connected any number of times
                Ok(()) => give_up(&sockets, &self.socket),
                Err(libc::EINPROGRESS) => give_up_later(sockets, self.socket),
                Err(_) => {} // it may be tried again
            }
        }
        made
    }
}

/// Gives a socket up that was connected, unless it was disconnected (AF_UNSPEC).
fn give_up(sockets: &MadeSockets, socket: &OwnedFd) {
    if socket::tcp_family(socket).is_none() || socket::tcp_state(socket) != Some(socket::CLOSED) {
        sockets.give_up(socket);
    }
}

/// Gives a socket up when its connection stands. On loopback it most often does already.
fn give_up_later(sockets: MadeSockets, socket: OwnedFd) {
    if socket::tcp_state(&socket) == Some(socket::ESTABLISHED) {
        return sockets.give_up(&socket);
    }
    /// The kernel itself gives up sooner (`tcp_syn_retries` in `tcp(7)`).
    const LONGEST_MS: i32 = 180_000;
    let _ = std::thread::Builder::new().name("nono-connecting".into()).stack_size(64 * 1024).spawn(
        move || {
            let mut watched =
                libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
            // SAFETY: the kernel fills `revents` of one element.
            unsafe { libc::poll(&raw mut watched, 1, LONGEST_MS) };
            give_up(&sockets, &socket);
        },
    );
}

/// Makes a connection that may take long on a thread of its own, so that no other command waits for
/// it. The caller is parked meanwhile: there are no more such threads than threads inside.
fn wait_elsewhere(listener: &Arc<Listener>, call: &Notification, connection: Connection) {
    let Some(seat) = connection.seats.take_one() else {
        return listener.finish(call, Err(libc::EAGAIN));
    };
    let (theirs, parked) = (listener.clone(), *call);
    let started = std::thread::Builder::new()
        .name("nono-connect".into())
        .stack_size(64 * 1024)
        .spawn(move || {
            let _seat = seat;
            theirs.finish(&parked, connection.make());
        });
    if started.is_err() {
        listener.finish(call, Err(libc::EAGAIN));
    }
}
