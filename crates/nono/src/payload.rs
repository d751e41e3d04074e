//! Building what `nono-init` maps: records and strings in a memory file.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd};

use nono_init::protocol::{Limit, Plan, Spawn, Step};

use crate::seccomp::Instruction;

/// Plain integers without padding: their bytes can cross as they are.
pub(crate) trait Record: Copy {}
impl Record for Plan {}
impl Record for Spawn {}
impl Record for Step {}
impl Record for Limit {}
impl Record for Instruction {}
impl Record for u64 {}

/// A payload under construction: a header, then whatever it points to.
pub(crate) struct PayloadBuilder(Vec<u8>);

impl PayloadBuilder {
    /// Leaves room for the header `H`, which [`PayloadBuilder::finish`] fills in.
    pub(crate) fn new<H: Record>() -> Self {
        PayloadBuilder(vec![0; size_of::<H>()])
    }

    /// Adds records and returns where they begin.
    pub(crate) fn records<R: Record>(&mut self, records: &[R]) -> u32 {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let offset = self.0.len() as u32;
        for record in records {
            self.0.extend_from_slice(bytes_of(record));
        }
        offset
    }

    /// Adds a string with its NUL and returns where it begins.
    pub(crate) fn string(&mut self, string: &CStr) -> u32 {
        let offset = self.0.len() as u32;
        self.0.extend_from_slice(string.to_bytes_with_nul());
        offset
    }

    /// Adds strings and, for them, a table of offsets that ends with 0.
    pub(crate) fn strings<S: AsRef<CStr>>(&mut self, strings: &[S]) -> u32 {
        let mut table: Vec<u64> =
            strings.iter().map(|string| u64::from(self.string(string.as_ref()))).collect();
        table.push(0);
        self.records(&table)
    }

    /// Puts the header in place and everything into a memory file.
    pub(crate) fn finish<H: Record>(mut self, header: &H) -> io::Result<OwnedFd> {
        self.0[..size_of::<H>()].copy_from_slice(bytes_of(header));
        let mut file = File::from(memory_file(c"nono-request", false)?);
        file.write_all(&self.0)?;
        Ok(file.into())
    }
}

/// A memory file, closed on exec; on kernels since 6.3 it says whether it may be executed.
pub(crate) fn memory_file(name: &CStr, executable: bool) -> io::Result<OwnedFd> {
    const MFD_NOEXEC_SEAL: u32 = 8;
    const MFD_EXEC: u32 = 16;
    let create = |flags: u32| {
        // SAFETY: the name is a C string that lives across the call.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        // SAFETY: a new descriptor that nobody else owns.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) }).ok_or_else(io::Error::last_os_error)
    };
    let purpose = if executable { MFD_EXEC } else { MFD_NOEXEC_SEAL };
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    match create(flags | purpose) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create(flags),
        other => other,
    }
}

fn bytes_of<R: Record>(record: &R) -> &[u8] {
    // SAFETY: a `Record` has no padding, so each of its bytes is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast(), size_of::<R>()) }
}
