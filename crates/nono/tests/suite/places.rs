//! What holds of granted places themselves: between two of them, and when another file takes the place
//! of one.

use nono::{Command, Observe, Options, Sandbox};

use crate::common::{Scratch, run_command, shell};

fn python(sandbox: &Sandbox, script: &str, place: &Scratch) -> String {
    let prelude = "import errno, os, sys\nos.chdir(sys.argv[1])\n\
        def attempt(call, *arguments):\n\
        \x20   try: call(*arguments); print('done')\n\
        \x20   except OSError as error: print(errno.errorcode[error.errno])\n";
    let script = format!("{prelude}{script}");
    let place = place.path().to_str().unwrap();
    run_command(sandbox, Command::new(["/usr/bin/python3", "-I", "-c", &script, place])).1
}

/// In a sandbox of each tier, watched and not.
fn in_each_way(capabilities: &nono::Capabilities, test: impl Fn(&Sandbox, Observe)) {
    for tier in nono::support().tiers {
        if let Some(reason) = tier.unavailable {
            println!("SKIPPED: the {} tier: {reason}", tier.name.as_str());
            continue;
        }
        for observe in [Observe::All, Observe::Changes, Observe::Off] {
            println!("tier {}, {observe:?}", tier.name.as_str());
            let options = Options { tier: Some(tier.name), observe, ..Options::default() };
            test(&Sandbox::create(capabilities, &options).unwrap(), observe);
        }
    }
}

#[test]
fn files_and_directories_are_moved_between_granted_places() {
    let scratch = Scratch::in_public();
    for name in ["a/file", "b/file", "readable/file"] {
        scratch.file(name, name);
    }
    let capabilities = shell()
        .allow_write(scratch.path().join("a"))
        .allow_write(scratch.path().join("b"))
        .allow_read(scratch.path())
        .protect(false);
    let script = "
attempt(os.rename, 'a/file', 'b/moved'); attempt(os.rename, 'b/moved', 'a/file')
os.makedirs('a/d/e', exist_ok=True)
attempt(os.rename, 'a/d', 'b/d'); attempt(os.rename, 'b/d', 'a/d')
attempt(os.link, 'a/file', 'b/link'); print(os.path.samefile('a/file', 'b/link')); os.unlink('b/link')
attempt(os.link, 'a/d', 'a/link'); attempt(os.link, 'a/d', 'b/link')
attempt(os.rename, 'a/file', 'readable/file'); attempt(os.rename, 'readable/file', 'a/stolen')
attempt(os.link, 'readable/file', 'a/link'); attempt(os.rename, 'a/file', 'file')
print(open('a/file').read(), open('b/file').read(), open('readable/file').read())";
    in_each_way(&capabilities, |sandbox, _| {
        let output = python(sandbox, script, &scratch);
        let lines: Vec<_> = output.lines().collect();
        let done = ["done", "done", "done", "done", "done", "True", "EPERM", "EPERM"];
        assert_eq!(lines[..8], done, "{output}");
        let refusals = ["EACCES", "EROFS", "EXDEV"];
        assert!(lines[8..12].iter().all(|line| refusals.contains(line)), "{output}");
        assert_eq!(lines[12..], ["a/file b/file readable/file"], "{output}");
    });
}
