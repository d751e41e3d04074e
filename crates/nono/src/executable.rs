//! What a program needs to start: itself, its loader, a script's interpreter.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// The kernel follows at most this many interpreters (`BINPRM_BUF_SIZE` and the loop of
/// `exec_binprm`, fs/exec.c).
const MAX_INTERPRETERS: usize = 5;

/// Finds a program the way execvp does, without running anything.
pub(crate) fn look_up(name: &OsStr, search_path: &OsStr) -> Result<PathBuf> {
    look_up_allowed(name, search_path, |_| true)
}

/// Finds a program among those that are `allowed`: execvp, too, goes on to the next directory when
/// one may not be executed. If none is, the first one is the answer, for the error that follows.
pub(crate) fn look_up_allowed(
    name: &OsStr,
    search_path: &OsStr,
    allowed: impl Fn(&Path) -> bool,
) -> Result<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(name));
    }
    let found: Vec<_> = std::env::split_paths(search_path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .filter(|path| is_executable(path))
        .collect();
    let chosen = found.iter().find(|path| allowed(path)).or(found.first());
    chosen.cloned().ok_or_else(|| Error::ExecNotFound {
        name: name.to_owned(),
        search_path: search_path.to_string_lossy().into_owned(),
    })
}

pub(crate) fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Adds `program` and all that the kernel opens to start it: `PT_INTERP` of an ELF file, the
/// interpreter of a script, and what `env` in a script's first line stands for.
pub(crate) fn closure(
    program: &Path,
    search_path: &OsStr,
    found: &mut Vec<PathBuf>,
) -> io::Result<()> {
    let mut next = Some(program.to_owned());
    for _ in 0..MAX_INTERPRETERS {
        let Some(path) = next.take() else { break };
        let path = path.canonicalize()?;
        if found.contains(&path) {
            break;
        }
        next = match read_head(&path)? {
            Head::Elf { interpreter } => interpreter,
            Head::Script { interpreter, argument } => {
                let stands_for = argument.filter(|_| interpreter.ends_with("env"));
                if let Some(name) = stands_for
                    && let Ok(real) = look_up(&name, search_path)
                    && real.is_absolute()
                {
                    closure(&real, search_path, found)?;
                }
                Some(interpreter)
            }
            Head::Other => None,
        };
        found.push(path);
    }
    Ok(())
}

/// The dynamic loader that this very process was started by: programs below a granted directory
/// need it too.
pub(crate) fn native_loader() -> Option<PathBuf> {
    match read_head(Path::new("/proc/self/exe")) {
        Ok(Head::Elf { interpreter }) => interpreter?.canonicalize().ok(),
        _ => None,
    }
}

/// Opens a program to look at it. Nothing else is opened for good, which may be somebody's pipe (EACCES, as
/// `execve(2)` says of it).
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let waits_for_nobody = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(waits_for_nobody).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::from_raw_os_error(libc::EACCES)),
    }
}

/// The dynamic loader that an open ELF file names, if it names one.
pub(crate) fn loader(file: &File) -> Option<PathBuf> {
    let mut head = [0u8; 256];
    let length = file.read_at(&mut head, 0).ok()?;
    head.starts_with(b"\x7fELF").then(|| elf_interpreter(file, &head[..length])).flatten()
}

/// Where the dynamic loaders of this system are, looked up once: whatever libc brought them.
pub(crate) fn installed_loaders() -> &'static [PathBuf] {
    const DIRECTORIES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];
    static LOADERS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let entries = |directory: &Path| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let named = |path: &Path, test: fn(&str) -> bool| {
        path.file_name().and_then(OsStr::to_str).is_some_and(test)
    };
    LOADERS.get_or_init(|| {
        let mut found: Vec<_> =
            DIRECTORIES.iter().flat_map(|path| entries(path.as_ref())).collect();
        let multiarch = found.iter().filter(|path| named(path, |name| name.contains("-linux-")));
        let below: Vec<_> = multiarch.flat_map(|path| entries(path)).collect();
        found.extend(below);
        found.retain(|path| named(path, |name| name.starts_with("ld") && name.contains(".so")));
        found
    })
}

enum Head {
    Elf { interpreter: Option<PathBuf> },
    Script { interpreter: PathBuf, argument: Option<OsString> },
    Other,
}

fn read_head(path: &Path) -> io::Result<Head> {
    let file = match open(path) {
        Ok(file) => file,
        // Executable but not readable (mode 0711): it is ELF, since an interpreter could not read a
        // script either; its loader is then the usual one.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path.is_file() => {
            return Ok(Head::Elf { interpreter: native_loader() });
        }
        Err(error) => return Err(error),
    };
    let mut head = [0u8; 256]; // BINPRM_BUF_SIZE
    let length = file.read_at(&mut head, 0)?;
    let head = &head[..length];
    if head.starts_with(b"\x7fELF") {
        return Ok(Head::Elf { interpreter: elf_interpreter(&file, head) });
    }
    let Some(line) = head.strip_prefix(b"#!") else { return Ok(Head::Other) };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or(line);
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    match words.next() {
        Some(interpreter) => Ok(Head::Script {
            interpreter: PathBuf::from(OsStr::from_bytes(interpreter)),
            argument: words
                .find(|word| !word.starts_with(b"-") && !word.contains(&b'='))
                .map(|word| OsStr::from_bytes(word).to_owned()),
        }),
        None => Ok(Head::Other),
    }
}

/// `PT_INTERP` of a 64-bit little-endian ELF file (`elf(5)`); `None` for static programs.
fn elf_interpreter(file: &File, head: &[u8]) -> Option<PathBuf> {
    const PT_INTERP: u32 = 3;
    const PROGRAM_HEADER: usize = 56;
    let number = |bytes: &[u8], at: usize, size: usize| -> Option<u64> {
        let mut value = [0u8; 8];
        value[..size].copy_from_slice(bytes.get(at..at + size)?);
        Some(u64::from_le_bytes(value))
    };
    let is_elf64_little_endian = head.get(4..6)? == [2, 1];
    if !is_elf64_little_endian {
        return None;
    }
    let offset = number(head, 32, 8)?;
    let count = number(head, 56, 2)? as usize;
    let mut headers = vec![0u8; count * PROGRAM_HEADER];
    file.read_exact_at(&mut headers, offset).ok()?;
    let interpreter = headers
        .chunks_exact(PROGRAM_HEADER)
        .find(|header| number(header, 0, 4) == Some(u64::from(PT_INTERP)))?;
    let size = number(interpreter, 32, 8)?.min(libc::PATH_MAX as u64);
    let mut path = vec![0u8; size as usize];
    file.read_exact_at(&mut path, number(interpreter, 8, 8)?).ok()?;
    path.truncate(path.iter().position(|byte| *byte == 0)?);
    Some(PathBuf::from(OsString::from_vec(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_brings_its_loader() {
        let mut found = Vec::new();
        closure(Path::new("/bin/ls"), OsStr::new("/bin"), &mut found).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].to_string_lossy().contains("ld-"), "{found:?}");
    }

    #[test]
    fn a_script_brings_what_its_first_line_names() {
        let directory = std::env::temp_dir().join(format!("nono-exec-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let script = directory.join("script");
        std::fs::write(&script, "#!/usr/bin/env -S sh -e\n").unwrap();
        let mut found = Vec::new();
        closure(&script, OsStr::new("/usr/bin:/bin"), &mut found).unwrap();
        // What commands may write they can make a pipe, which nobody writes to.
        std::fs::remove_file(&script).unwrap();
        let name = std::ffi::CString::new(script.as_os_str().as_bytes()).unwrap();
        // SAFETY: a C string.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o755) }, 0);
        let of_a_pipe = directory.join("of-a-pipe");
        std::fs::write(&of_a_pipe, format!("#!{}\n", script.display())).unwrap();
        for program in [&script, &of_a_pipe] {
            let error = closure(program, OsStr::new("/bin"), &mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
        std::fs::remove_dir_all(&directory).unwrap();
        let names: Vec<_> = found.iter().filter_map(|path| path.file_name()).collect();
        assert!(names.contains(&OsStr::new("env")), "{found:?}");
        let shell = Path::new("/bin/sh").canonicalize().unwrap();
        assert!(found.contains(&shell), "{found:?}");
    }
}
