//! Runs a command that may read the given directory and nothing else of yours:
//!
//! ```text
//! cargo run -p nono --example run -- /workspace ls -l /workspace
//! ```

use std::os::fd::AsFd;
use std::process::ExitCode;

use nono::{Capabilities, Command, Options, Sandbox};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(directory), argv) = (arguments.next(), arguments.collect::<Vec<_>>()) else {
        eprintln!("usage: run DIRECTORY COMMAND [ARGUMENT...]");
        return ExitCode::from(2);
    };
    match run(directory, argv) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}: {error}\n{}", error.code(), error.remedy());
            ExitCode::from(125)
        }
    }
}

fn run(directory: std::ffi::OsString, argv: Vec<std::ffi::OsString>) -> nono::Result<ExitCode> {
    let program = argv.first().cloned().unwrap_or_default();
    let capabilities = Capabilities::new().allow_read(directory).allow_exec(program);
    let sandbox = Sandbox::create(&capabilities, &Options::default())?;
    let own = |stream: std::os::fd::BorrowedFd<'_>| {
        stream.try_clone_to_owned().map_err(|source| nono::Error::SandboxFailed {
            stage: "copying a standard stream".into(),
            source,
        })
    };
    let stdio = vec![
        own(std::io::stdin().as_fd())?,
        own(std::io::stdout().as_fd())?,
        own(std::io::stderr().as_fd())?,
    ];
    let exit = sandbox.spawn(Command::new(argv).stdio(stdio))?.wait();
    Ok(ExitCode::from(exit.status.code().unwrap_or(1) as u8))
}
