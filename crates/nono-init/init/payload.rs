//! A request's data: a memory file, mapped privately and used in place.

use crate::sys::{self, Result, call};

/// A mapped payload. Dropped, it is unmapped.
pub struct Payload {
    base: *mut u8,
    length: usize,
}

impl Payload {
    /// Maps the whole file and closes `fd`.
    pub fn map(fd: i32) -> Result<Self> {
        const PROT_READ_WRITE: u64 = 3;
        const MAP_PRIVATE: u64 = 2;
        const SIZE_OFFSET: usize = 6; // st_size is the seventh 64-bit word of struct stat
        let mut stat = [0u64; 18];
        call!(FSTAT, fd, stat.as_mut_ptr())?;
        let length = stat[SIZE_OFFSET] as usize;
        let base = call!(MMAP, 0, length, PROT_READ_WRITE, MAP_PRIVATE, fd, 0);
        sys::close(fd);
        Ok(Payload { base: base? as *mut u8, length })
    }

    /// Copies a header or record out.
    pub fn read<T: Copy>(&self, offset: usize) -> T {
        assert!(
            offset.checked_add(core::mem::size_of::<T>()).is_some_and(|end| end <= self.length)
        );
        // SAFETY: the range is inside the mapping; every `T` of the protocol is plain integers.
        unsafe { self.base.add(offset).cast::<T>().read_unaligned() }
    }

    /// A NUL-terminated string, or null for offset 0.
    pub fn string(&self, offset: u32) -> *const u8 {
        if offset == 0 {
            return core::ptr::null();
        }
        assert!((offset as usize) < self.length);
        // SAFETY: the offset is inside the mapping; the owner ends every string with NUL, and the
        // page after the last byte of a file mapping is zero-filled.
        unsafe { self.base.add(offset as usize) }
    }

    /// Turns a table of offsets, ended by 0, into a table of pointers, in place.
    pub fn pointers(&mut self, table: u32, count: u32) -> *const *const u8 {
        let table = table as usize;
        assert!(table.checked_add((count as usize + 1) * 8).is_some_and(|end| end <= self.length));
        let mut at = 0;
        while at < count as usize {
            let offset: u64 = self.read(table + at * 8);
            let pointer = self.string(offset as u32);
            // SAFETY: inside the table, whose bounds were checked above.
            unsafe { self.base.add(table + at * 8).cast::<*const u8>().write_unaligned(pointer) };
            at += 1;
        }
        // SAFETY: inside the mapping.
        unsafe { self.base.add(table).cast() }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        let _ = call!(MUNMAP, self.base, self.length);
    }
}
