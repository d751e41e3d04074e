//! Terminals: pairs whose one end is a command's and whose other end is the owner's.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

impl Default for TerminalSize {
    /// 80 columns, 24 rows.
    fn default() -> Self {
        TerminalSize { columns: 80, rows: 24 }
    }
}

/// The owner's end of a command's terminal (`pty(7)`). What is written arrives as if typed; what is
/// read is what the command shows. Reading ends, with 0 bytes, when nobody inside has the terminal
/// open any more. Dropping it hangs up: the command and its foreground processes get SIGHUP.
///
/// ```no_run
/// use std::io::{Read, Write};
/// use nono::{Capabilities, Command, Options, Sandbox, TerminalSize};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let capabilities = Capabilities::new().allow_exec("bash");
/// let sandbox = Sandbox::create(&capabilities, &Options::default())?;
/// let mut child =
///     sandbox.spawn(Command::new(["bash"]).terminal(TerminalSize { columns: 120, rows: 40 }))?;
/// let mut terminal = child.take_terminal().expect("it was asked for");
/// terminal.write_all(b"tty; exit\n")?;
/// let mut screen = String::new();
/// terminal.read_to_string(&mut screen)?;
/// assert!(child.wait().status.success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Terminal(File);

impl Terminal {
    /// Makes a pair by a multiplexer device (`ptmx(4)`); the second end is the command's.
    pub(crate) fn open(multiplexer: &Path, size: TerminalSize) -> io::Result<(Self, OwnedFd)> {
        use std::os::unix::fs::OpenOptionsExt;
        let own = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(multiplexer)?;
        let terminal = Terminal(own);
        terminal.resize(size)?;
        let locked: libc::c_int = 0;
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let fd = terminal.0.as_raw_fd();
        // By descriptor, not by the path that ptsname(3) gives: it may name another mount.
        // SAFETY: TIOCSPTLCK reads an int, TIOCGPTPEER takes a value (`ioctl_tty(2)`).
        let theirs = unsafe {
            match libc::ioctl(fd, libc::TIOCSPTLCK, &raw const locked) {
                0 => libc::ioctl(fd, libc::TIOCGPTPEER, flags),
                error => error,
            }
        };
        match theirs {
            // SAFETY: a new descriptor that nobody else owns.
            0.. => Ok((terminal, unsafe { OwnedFd::from_raw_fd(theirs) })),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Changes the size. The foreground processes are told by SIGWINCH.
    ///
    /// # Errors
    /// What the kernel says; none is known for a terminal that is open.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        let size =
            libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCSWINSZ reads a winsize (`ioctl_tty(2)`).
        match unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The character that means the end of input when it is typed: Ctrl-D unless the command has
    /// chosen another.
    ///
    /// # Errors
    /// What the kernel says; none is known for a terminal that is open.
    pub fn end_of_input(&self) -> io::Result<u8> {
        // SAFETY: all-zero is a valid termios, which tcgetattr fills.
        let mut settings: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: `settings` lives across the call.
        match unsafe { libc::tcgetattr(self.0.as_raw_fd(), &raw mut settings) } {
            0 => Ok(settings.c_cc[libc::VEOF]),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Read for &Terminal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&self.0).read(buffer) {
            // The last process that had the other end open has closed it (tty_io.c, n_tty.c).
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
            other => other,
        }
    }
}

impl Write for &Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Terminal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
