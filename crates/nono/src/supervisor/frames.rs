//! Where in its code a process made a call: the return addresses on its stack, as places in files.
//!
//! The stack is scanned, not unwound: a word counts as a return address if it points into executable
//! memory right after a call instruction. Old addresses that happen to lie there count too.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::process;

/// How much of the stack is looked at, in bytes.
const DEPTH: usize = 8192;
/// The bits of a stack's word that are an address. On AArch64 the others sign a return address, where
/// programs are built so, as distributions do ("Pointer authentication in AArch64 Linux" of the kernel's
/// documentation; user space has 48 bits unless a program asks for more).
const ADDRESS: u64 = if cfg!(target_arch = "aarch64") { (1 << 48) - 1 } else { u64::MAX };
/// How many places are told.
const MOST: usize = 16;

/// An executable mapping (`proc_pid_maps(5)`).
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    name: String,
}

/// `module+0xoffset` of each place, innermost first. Empty if the process cannot be looked into.
pub(super) fn of(thread: i32) -> Vec<String> {
    scan(thread).unwrap_or_default()
}

fn scan(thread: i32) -> Option<Vec<String>> {
    let call = process::read_text(format!("/proc/{thread}/syscall")).ok()?;
    let mut numbers = call.split_whitespace().rev();
    let mut hexadecimal = || u64::from_str_radix(numbers.next()?.trim_start_matches("0x"), 16).ok();
    let (program_counter, stack_pointer) = (hexadecimal()?, hexadecimal()?);
    let mappings = mappings(thread)?;
    let memory = File::open(format!("/proc/{thread}/mem")).ok()?;
    let mut stack = vec![0; DEPTH];
    let length = memory.read_at(&mut stack, stack_pointer).ok()?;
    let (words, _) = stack[..length].as_chunks::<8>();
    let addresses = words.iter().map(|word| u64::from_ne_bytes(*word) & ADDRESS);
    let returns = addresses.filter(|address| {
        mappings.iter().any(|mapping| mapping.holds(*address)) && follows_call(&memory, *address)
    });
    let places = std::iter::once(program_counter).chain(returns);
    Some(places.filter_map(|address| name(&mappings, address)).take(MOST).collect())
}

impl Mapping {
    fn holds(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}

fn name(mappings: &[Mapping], address: u64) -> Option<String> {
    let mapping = mappings.iter().find(|mapping| mapping.holds(address))?;
    let module = mapping.name.rsplit('/').next().unwrap_or_default();
    Some(format!("{module}+{:#x}", address - mapping.start + mapping.offset))
}

fn mappings(thread: i32) -> Option<Vec<Mapping>> {
    let text = process::read_text(format!("/proc/{thread}/maps")).ok()?;
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let executable = words.next()?.as_bytes().get(2) == Some(&b'x');
        let offset = number(words.next()?)?;
        let name = words.nth(2).unwrap_or("anonymous").to_owned();
        executable.then_some(Mapping { start: number(start)?, end: number(end)?, offset, name })
    };
    Some(text.lines().filter_map(parse).collect())
}

/// Whether the instruction before `address` is a call: near relative, or by register or memory
/// (Intel SDM, volume 2, CALL).
#[cfg(target_arch = "x86_64")]
fn follows_call(memory: &File, address: u64) -> bool {
    let mut before = [0u8; 7];
    if memory.read_exact_at(&mut before, address.wrapping_sub(7)).is_err() {
        return false;
    }
    let indirect = |length: usize| before[7 - length] == 0xff && before[8 - length] >> 3 & 7 == 2;
    before[2] == 0xe8 || [2, 3, 4, 6, 7].into_iter().any(indirect)
}

/// Whether the instruction before `address` is BL or BLR (Arm ARM, C6.2).
#[cfg(target_arch = "aarch64")]
fn follows_call(memory: &File, address: u64) -> bool {
    let mut before = [0u8; 4];
    if address % 4 != 0 || memory.read_exact_at(&mut before, address.wrapping_sub(4)).is_err() {
        return false;
    }
    let instruction = u32::from_le_bytes(before);
    instruction & 0xfc00_0000 == 0x9400_0000 || instruction & 0xffff_fc1f == 0xd63f_0000
}
