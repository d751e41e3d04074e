//! Doors between a sandbox's loopback and the host's: who comes to a door's listener is connected to
//! somebody on the other side.
//!
//! One thread for all sandboxes of this process, as with the reactor: neither a door nor a
//! connection costs one.

mod link;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::descriptor::owned;
use crate::limits;
use crate::socket;
use link::{Attempt, Link, Progress, Side};

/// Where a connection that came to a door is led.
pub(crate) enum Way {
    /// To the first of these that answers, from this process's own network.
    Here([SocketAddr; 2]),
    /// To this port here, if the sandbox's own socket listens there.
    If(SocketAddr, Box<dyn Fn() -> bool + Send>),
    /// To the first of these, of IPv4 and of IPv6, that answers, by sockets that were born in the
    /// sandbox's network namespace. Each call asks for them, and [`Relay::supply`] brings them; false: not
    /// these.
    There([SocketAddr; 2], Box<dyn Fn(u32) -> bool + Send>),
}

/// The doors of one sandbox. Dropped, they are closed, with all that went through them.
#[derive(Debug)]
pub(crate) struct Doors {
    sandbox: u32,
}

/// The thread's mailbox.
pub(crate) struct Relay {
    epoll: OwnedFd,
    wake: OwnedFd,
    letters: Mutex<Vec<Letter>>,
}

enum Letter {
    Open(u32, Door),
    Supply(u32, Vec<OwnedFd>),
    Close(u32),
}

struct Door {
    sandbox: u32,
    listener: OwnedFd,
    way: Way,
    /// Connections that wait for a socket of the other side.
    waiting: VecDeque<OwnedFd>,
}

static LAST: AtomicU32 = AtomicU32::new(0);

fn next() -> u32 {
    LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
}

impl Doors {
    pub(crate) fn none() -> Self {
        Doors { sandbox: next() }
    }

    /// Opens a door at a listener.
    pub(crate) fn open(&self, listener: OwnedFd, way: Way) -> io::Result<()> {
        socket::set_nonblocking(&listener)?;
        let door = Door { sandbox: self.sandbox, listener, way, waiting: VecDeque::new() };
        Relay::get()?.post(Letter::Open(next(), door));
        Ok(())
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        if let Some(relay) = RELAY.get() {
            relay.post(Letter::Close(self.sandbox));
        }
    }
}

static RELAY: OnceLock<Relay> = OnceLock::new();

impl Relay {
    /// The process's relay, started when it is first needed.
    fn get() -> io::Result<&'static Relay> {
        static STARTING: Mutex<()> = Mutex::new(());
        let _one_starter = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(relay) = RELAY.get() {
            return Ok(relay);
        }
        // SAFETY: no memory is involved; each call makes a new descriptor or fails.
        let (epoll, wake) = unsafe {
            (owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))?, owned(libc::eventfd(0, EVENT))?)
        };
        watch(&epoll, &wake, libc::EPOLL_CTL_ADD, libc::EPOLLIN as u32, WAKE)?;
        let relay = RELAY.get_or_init(|| Relay { epoll, wake, letters: Mutex::default() });
        let thread = std::thread::Builder::new().name("nono-relay".into());
        thread.spawn(|| Work { relay, doors: HashMap::new(), links: HashMap::new() }.run())?;
        Ok(relay)
    }

    /// Brings the sockets that a [`Way::There`] asked for.
    pub(crate) fn supply(door: u32, sockets: Vec<OwnedFd>) {
        if let Some(relay) = RELAY.get() {
            relay.post(Letter::Supply(door, sockets));
        }
    }

    fn post(&self, letter: Letter) {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
        let one = 1u64;
        // SAFETY: an eventfd takes eight bytes (`eventfd(2)`).
        unsafe { libc::write(self.wake.as_raw_fd(), (&raw const one).cast(), size_of_val(&one)) };
    }
}

const EVENT: i32 = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK;

// What an event is about: the mailbox, a door, or one side of a link.
const WAKE: u64 = 0;
const DOOR: u64 = 1 << 32;
const LINK: u64 = 2 << 32;
const OTHER_SIDE: u64 = 1 << 63;

/// What the thread works with.
struct Work {
    relay: &'static Relay,
    doors: HashMap<u32, Door>,
    links: HashMap<u32, (u32, Link)>,
}

impl Work {
    fn run(mut self) -> ! {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; 128];
            let epoll = self.relay.epoll.as_raw_fd();
            // SAFETY: the kernel writes at most as many events as the array holds.
            let count =
                unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, -1) };
            for event in &events[..count.max(0) as usize] {
                let (about, id) = (event.u64, event.u64 as u32);
                match about & !OTHER_SIDE & !u64::from(u32::MAX) {
                    WAKE => self.read_letters(),
                    DOOR => self.answer(id),
                    _ => self.advance(id, side(about), event.events, &mut buffer),
                }
            }
        }
    }

    fn read_letters(&mut self) {
        let mut count = 0u64;
        let wake = self.relay.wake.as_raw_fd();
        // SAFETY: the kernel writes eight bytes (`eventfd(2)`).
        unsafe { libc::read(wake, (&raw mut count).cast(), size_of_val(&count)) };
        let letters = {
            let mut letters = self.relay.letters.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *letters)
        };
        for letter in letters {
            match letter {
                Letter::Open(id, door) => {
                    let about = DOOR | u64::from(id);
                    let events = libc::EPOLLIN as u32;
                    let added = watch(
                        &self.relay.epoll,
                        &door.listener,
                        libc::EPOLL_CTL_ADD,
                        events,
                        about,
                    );
                    if added.is_ok() {
                        self.doors.insert(id, door);
                    }
                }
                Letter::Supply(id, sockets) => self.supplied(id, sockets),
                // What is dropped leaves the set by itself: nobody else has these descriptors.
                Letter::Close(sandbox) => {
                    self.doors.retain(|_, door| door.sandbox != sandbox);
                    self.links.retain(|_, (of, _)| *of != sandbox);
                }
            }
        }
    }

    /// Somebody is at a door.
    fn answer(&mut self, id: u32) {
        let Some(door) = self.doors.get_mut(&id) else { return };
        let client = match socket::accept(&door.listener) {
            Ok(client) => client,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => {
                // No descriptor is free. It would be told at once again.
                return std::thread::sleep(std::time::Duration::from_millis(5));
            }
        };
        let _ = socket::set_option(&client, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
        let sandbox = door.sandbox;
        match &door.way {
            Way::Here(addresses) => {
                let attempts = addresses.iter().filter_map(attempt).collect();
                self.connect(sandbox, client, attempts);
            }
            Way::If(address, holds) => {
                let attempts =
                    if holds() { attempt(address).into_iter().collect() } else { vec![] };
                self.connect(sandbox, client, attempts);
            }
            Way::There(_, ask) => {
                if door.waiting.len() < limits::share_of_descriptors() && ask(id) {
                    door.waiting.push_back(client);
                } else {
                    socket::reset(client);
                }
            }
        }
    }

    fn supplied(&mut self, id: u32, sockets: Vec<OwnedFd>) {
        let Some(door) = self.doors.get_mut(&id) else { return };
        let (Some(client), Way::There(addresses, _)) = (door.waiting.pop_front(), &door.way) else {
            return;
        };
        let (sandbox, attempts) = (door.sandbox, sockets.into_iter().zip(*addresses).collect());
        self.connect(sandbox, client, attempts);
    }

    fn connect(&mut self, sandbox: u32, client: OwnedFd, attempts: Vec<Attempt>) {
        // Two descriptors each.
        let most = limits::share_of_descriptors() / 2;
        if self.links.values().filter(|(of, _)| *of == sandbox).count() >= most {
            return socket::reset(client);
        }
        let Some(mut link) = Link::connect(client, attempts) else { return };
        let id = next();
        let about = LINK | u64::from(id);
        if link.watch(&self.relay.epoll, about, about | OTHER_SIDE).is_ok() {
            self.links.insert(id, (sandbox, link));
        }
    }

    fn advance(&mut self, id: u32, side: Side, events: u32, buffer: &mut [u8]) {
        let Some((_, link)) = self.links.get_mut(&id) else { return };
        let about = LINK | u64::from(id);
        let goes_on = link.advance(side, events, buffer) == Progress::GoesOn
            && link.watch(&self.relay.epoll, about, about | OTHER_SIDE).is_ok();
        if !goes_on {
            self.links.remove(&id);
        }
    }
}

/// A socket of this process's own network; `None`: a kernel without IPv6.
fn attempt(address: &SocketAddr) -> Option<Attempt> {
    Some((socket::stream(address).ok()?, *address))
}

fn side(about: u64) -> Side {
    if about & OTHER_SIDE == 0 { Side::Client } else { Side::Server }
}

fn watch(epoll: &OwnedFd, fd: &OwnedFd, how: i32, events: u32, about: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: about };
    // SAFETY: `event` lives across the call.
    match unsafe { libc::epoll_ctl(epoll.as_raw_fd(), how, fd.as_raw_fd(), &raw mut event) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
