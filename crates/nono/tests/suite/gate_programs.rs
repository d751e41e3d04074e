//! Programs that know nothing of a proxy, in front of the gate: each resolves a name and fetches a
//! page by it.

use std::path::{Path, PathBuf};
use std::process;

use crate::common::{Scratch, in_each_setting, run_command};
use crate::gate::gated;
use crate::test_gate::with_gate;
use nono::Command;

/// Wants the output of `argv` to be what the gate says of `http://name.test/`.
fn fetches(directory: &Path, argv: &[&str]) {
    let capabilities = gated(&[80]).allow_read(directory).allow_exec(directory).allow_exec(argv[0]);
    in_each_setting(&capabilities, |sandbox| {
        with_gate(sandbox, |_| {
            let (exit, output) = run_command(sandbox, Command::new(argv).env("HOME", "/"));
            assert_eq!(output.trim_end(), "198.18.0.7:80", "{:?}", exit.status);
        });
    });
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.exists())
}

#[test]
fn curl() {
    if find("curl").is_none() {
        return println!("SKIPPED: curl in front of the gate: it is not installed");
    }
    fetches(Path::new("/usr/bin"), &["/usr/bin/curl", "-sS", "-m", "20", "http://name.test/"]);
}

#[test]
fn python() {
    let script = "import urllib.request; print(urllib.request.urlopen('http://name.test/', timeout=20).read().decode())";
    fetches(Path::new("/usr/bin"), &["/usr/bin/python3", "-c", script]);
}

#[test]
fn node() {
    let Some(node) = find("node").and_then(|path| path.canonicalize().ok()) else {
        return println!("SKIPPED: Node in front of the gate: it is not installed");
    };
    let script = "fetch('http://name.test/').then(async (answer) => console.log(await answer.text()), (error) => console.log(error.cause))";
    let directory = node.parent().unwrap().to_owned();
    fetches(&directory, &[node.to_str().unwrap(), "-e", script]);
}

/// Go puts a socket into epoll before it connects it; without cgo its resolver is its own, by UDP.
#[test]
fn go() {
    let Some(go) = find("go").and_then(|path| path.canonicalize().ok()) else {
        return println!("SKIPPED: Go in front of the gate: it is not installed");
    };
    let scratch = Scratch::new();
    let source = scratch.file(
        "main.go",
        r#"package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	connection, err := net.Dial("tcp", os.Args[1])
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(connection, "GET / HTTP/1.0\r\n\r\n")
	answer, _ := io.ReadAll(connection)
	fmt.Println(string(answer[len(answer)-13:]))
}
"#,
    );
    let program = scratch.path().join("fetch");
    let cache = std::env::temp_dir().join(format!("nono-go-{}", process::id()));
    let built = process::Command::new(&go)
        .args(["build", "-o"])
        .args([&program, &source])
        .env("CGO_ENABLED", "0")
        .env("GOCACHE", &cache)
        .env("HOME", scratch.path())
        .current_dir(scratch.path())
        .output()
        .unwrap();
    let _ = std::fs::remove_dir_all(cache);
    if !built.status.success() {
        let why = String::from_utf8_lossy(&built.stderr);
        return println!("SKIPPED: Go in front of the gate: it does not build here: {why}");
    }
    fetches(scratch.path(), &[program.to_str().unwrap(), "name.test:80"]);
    fetches(scratch.path(), &[program.to_str().unwrap(), "198.18.0.7:80"]);
}
