//! A little gate: it says to each connection where it was meant to go, and answers every name below
//! `.test`.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nono::{GateListener, Sandbox};

/// What the gate has seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// Where connections were meant to go.
    pub(crate) meant: Mutex<Vec<SocketAddr>>,
    /// Connections that nobody knows, and which were closed.
    pub(crate) strangers: AtomicUsize,
    pub(crate) queries: AtomicUsize,
}

/// The address of every name.
const SYNTHETIC: [u8; 4] = [198, 18, 0, 7];

/// Runs `test` while the sandbox's listeners are served.
pub(crate) fn with_gate<T>(sandbox: &Sandbox, test: impl FnOnce(&Seen) -> T) -> T {
    let (listeners, seen, done) =
        (sandbox.take_listeners(), Seen::default(), AtomicBool::new(false));
    struct Finally<'a>(&'a AtomicBool);
    impl Drop for Finally<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    thread::scope(|scope| {
        let _finally = Finally(&done); // a failed test must end the threads too
        let (seen, done) = (&seen, &done);
        for listener in listeners {
            scope.spawn(move || match listener.stream {
                true => serve_stream(sandbox, &listener, seen, done),
                false => serve_datagrams(&listener, seen, done),
            });
        }
        test(seen)
    })
}

fn serve_stream(sandbox: &Sandbox, listener: &GateListener, seen: &Seen, done: &AtomicBool) {
    let socket: TcpListener = listener.fd.as_fd().try_clone_to_owned().unwrap().into();
    socket.set_nonblocking(true).unwrap();
    thread::scope(|scope| {
        while !done.load(Ordering::Relaxed) {
            let (connection, remote) = match socket.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            let meant = sandbox.destination(connection.local_addr().unwrap(), remote);
            let Some(meant) = meant else {
                seen.strangers.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            connection.set_nonblocking(false).unwrap();
            connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let dns = listener.dns;
            scope.spawn(move || {
                let _ = match dns {
                    true => answer_queries(connection, seen),
                    false => {
                        seen.meant.lock().unwrap().push(meant);
                        say_where(connection, meant)
                    }
                };
            });
        }
    });
}

/// HTTP gets it as a body; anything else as a line, and then an echo.
fn say_where(mut connection: TcpStream, meant: SocketAddr) -> std::io::Result<()> {
    let mut first = [0; 4];
    connection.read_exact(&mut first)?;
    let meant = SocketAddr::new(meant.ip().to_canonical(), meant.port()).to_string();
    if &first == b"GET " {
        let mut byte = [0; 1];
        let mut end = Vec::new();
        while !end.ends_with(b"\r\n\r\n") {
            connection.read_exact(&mut byte)?;
            end.push(byte[0]);
        }
        let length = meant.len();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close");
        return connection.write_all(format!("{head}\r\n\r\n{meant}").as_bytes());
    }
    connection.write_all(format!("{meant}\n").as_bytes())?;
    connection.write_all(&first)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            length => connection.write_all(&buffer[..length])?,
        }
    }
}

fn answer_queries(mut connection: TcpStream, seen: &Seen) -> std::io::Result<()> {
    loop {
        let mut length = [0; 2];
        connection.read_exact(&mut length)?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        connection.read_exact(&mut query)?;
        seen.queries.fetch_add(1, Ordering::Relaxed);
        let answer = answer(&query);
        let mut message = (answer.len() as u16).to_be_bytes().to_vec();
        message.extend(answer);
        connection.write_all(&message)?;
    }
}

fn serve_datagrams(listener: &GateListener, seen: &Seen, done: &AtomicBool) {
    let socket: UdpSocket = listener.fd.as_fd().try_clone_to_owned().unwrap().into();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut query = [0; 512];
    while !done.load(Ordering::Relaxed) {
        if let Ok((length, client)) = socket.recv_from(&mut query) {
            seen.queries.fetch_add(1, Ordering::Relaxed);
            socket.send_to(&answer(&query[..length]), client).unwrap();
        }
    }
}

/// RFC 1035: every name below `.test` has one address, and no other name exists.
fn answer(query: &[u8]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let exists = query[12..end].ends_with(b"\x04test\0");
    let wants_v4 = query[end..end + 2] == [0, 1];
    let mut answer = query[..end + 4].to_vec();
    answer[2] |= 0x80; // a response
    answer[3] = if exists { 0 } else { 3 }; // NXDOMAIN
    answer[4..12].copy_from_slice(&[0, 1, 0, u8::from(exists && wants_v4), 0, 0, 0, 0]);
    if exists && wants_v4 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(SYNTHETIC);
    }
    answer
}
