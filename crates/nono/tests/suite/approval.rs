//! Attempts that somebody is asked about: what is granted is exactly what was asked, and the rest is
//! refused as ever.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use nono::{Approver, Capabilities, Command, Event, Options, Request, Sandbox, TierName};

use crate::common::{Scratch, in_tier, run_command, shell};

fn in_each_tier_asking(
    capabilities: &Capabilities,
    ask: impl Fn(&Event, Request) + Send + Sync + Clone + 'static,
    mut test: impl FnMut(&Sandbox, &dyn Fn() -> Vec<String>),
) {
    for tier in nono::support().tiers {
        if let Some(reason) = tier.unavailable {
            println!("SKIPPED: the {} tier: {reason}", tier.name.as_str());
            continue;
        }
        println!("tier {}", tier.name.as_str());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, ask) = (asked.clone(), ask.clone());
        let approver = Approver::new(move |event, request| {
            let line = format!("{} {:?}", event.operation.as_str(), event.target);
            log.lock().unwrap().push(line);
            ask(&event, request);
        });
        let options = Options { approver: Some(approver), ..in_tier(tier.name) };
        let sandbox = Sandbox::create(capabilities, &options).unwrap();
        test(&sandbox, &|| std::mem::take(&mut *asked.lock().unwrap()));
    }
}

fn python(sandbox: &Sandbox, script: &str) -> String {
    let preamble = r"
import errno, os, socket
def attempt(name, call):
    try: print(name, call())
    except OSError as error: print(name, errno.errorcode[error.errno])
def read(path): return open(path).read()
def write(path, text, mode='w'):
    with open(path, mode) as file: file.write(text)
";
    let argv = ["/usr/bin/python3", "-I", "-S", "-c", &format!("{preamble}{script}")];
    let (exit, output) = run_command(sandbox, Command::new(argv));
    assert!(exit.status.success(), "{output}");
    output
}

#[test]
fn what_is_allowed_is_opened_as_it_was_asked() {
    let scratch = Scratch::in_public();
    scratch.file("o/secret", "the secret");
    let place = scratch.path().join("o").display().to_string();
    let script = format!(
        r"
os.umask(0o027)
attempt('read', lambda: read('{place}/secret'))
attempt('append', lambda: write('{place}/secret', ' and more', 'a'))
attempt('create', lambda: write('{place}/new', 'new'))
attempt('exclusive', lambda: write('{place}/new', 'new', 'x'))
attempt('truncate', lambda: write('{place}/new', 'newer'))
attempt('denied', lambda: read('{place}/.env'))
attempt('not asked about', lambda: os.unlink('{place}/new'))
"
    );
    scratch.file("o/.env", "x");
    let capabilities = shell().deny("**/.env");
    in_each_tier_asking(
        &capabilities,
        |_, request| request.allow(),
        |sandbox, asked| {
            scratch.file("o/secret", "the secret");
            let output = python(sandbox, &script);
            let expected = "read the secret\nappend None\ncreate None\nexclusive EEXIST\n\
                        truncate None\ndenied EACCES\nnot asked about ";
            assert!(output.starts_with(expected), "{output}");
            let asked = asked();
            assert_eq!(asked.len(), 4, "{asked:?}");
            let text = |name: &str| std::fs::read_to_string(scratch.path().join(name)).unwrap();
            assert_eq!(
                (text("o/secret").as_str(), text("o/new").as_str()),
                ("the secret and more", "newer")
            );
            let new = scratch.path().join("o/new");
            assert_eq!(new.metadata().unwrap().permissions().mode() & 0o777, 0o640);
            let (events, _) = sandbox.events().take(usize::MAX);
            let approved = events.iter().filter(|event| event.approved);
            assert!(
                approved.clone().all(|event| event.refused.is_none() && event.errno == Some(0))
            );
            assert_eq!(approved.count(), 4);
            std::fs::remove_file(new).unwrap();
        },
    );
}

#[test]
fn what_is_not_allowed_is_refused_and_others_go_on() {
    let scratch = Scratch::in_public();
    scratch.file("o/secret", "the secret");
    let place = scratch.path().join("o/secret").display().to_string();
    in_each_tier_asking(
        &shell(),
        |_, request| request.deny(),
        |sandbox, asked| {
            assert_eq!(
                python(sandbox, &format!("attempt('read', lambda: read('{place}'))")),
                "read EACCES\n"
            );
            let asked = asked();
            assert_eq!(asked.len(), 1, "{asked:?}");
            let (events, _) = sandbox.events().take(usize::MAX);
            let refused = events.iter().filter(|event| event.refused.is_some());
            assert_eq!(refused.count(), 1);
        },
    );
    // Nobody answers: the one waits, the other does not.
    let kept: Arc<Mutex<Vec<Request>>> = Arc::default();
    let keep = kept.clone();
    let ask = move |_: &Event, request| keep.lock().unwrap().push(request);
    in_each_tier_asking(&shell(), ask, |sandbox, asked| {
        let argv = ["/bin/sh".to_owned(), "-c".into(), format!("cat {place}")];
        let waiting = sandbox.spawn(Command::new(argv)).unwrap();
        while asked().is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(python(sandbox, "attempt('other', lambda: 1)"), "other 1\n");
        kept.lock().unwrap().clear(); // dropped is refused
        assert_eq!(waiting.wait().status.code(), Some(1));
    });
}

#[test]
fn nobody_is_asked_about_what_a_process_wants_to_know_of_itself() {
    let script = r"
for name in ['maps', 'cgroup', 'status', 'task', 'fd']:
    look = os.listdir if name in ('task', 'fd') else read
    attempt(name, lambda: bool(look('/proc/self/' + name)))
attempt('of the parent', lambda: bool(read('/proc/%d/cgroup' % os.getppid())))
";
    in_each_tier_asking(
        &shell(),
        |_, request| request.deny(),
        |sandbox, asked| {
            let output = python(sandbox, script);
            for name in ["maps", "cgroup", "status", "task", "fd"] {
                assert!(output.contains(&format!("{name} True\n")), "{output}");
            }
            let is_flat = sandbox.tier() == TierName::Flat;
            assert_eq!(asked().len(), usize::from(is_flat), "{output}"); // the parent's
        },
    );
}

#[test]
fn what_is_allowed_for_good_is_asked_about_once() {
    let scratch = Scratch::in_public();
    scratch.file("o/secret", "the secret");
    scratch.file("o/other", "the other");
    let place = scratch.path().join("o").display().to_string();
    let script = format!(
        r"
for turn in range(3): attempt('read', lambda: read('{place}/secret'))
attempt('write', lambda: write('{place}/secret', 'x'))
attempt('other', lambda: read('{place}/other'))
"
    );
    let ask = |event: &Event, request: Request| match &event.target {
        nono::Target::Path { path, .. }
            if path.ends_with("secret") && event.operation == nono::Operation::Read =>
        {
            request.allow_always();
        }
        _ => request.deny(),
    };
    in_each_tier_asking(&shell(), ask, |sandbox, asked| {
        let output = python(sandbox, &script);
        let expected =
            "read the secret\nread the secret\nread the secret\nwrite EACCES\nother EACCES\n";
        assert_eq!(output, expected);
        let asked = asked();
        assert_eq!(asked.len(), 3, "{asked:?}");
    });
}

#[test]
fn a_unix_socket_is_connected_to_on_somebodys_word() {
    let scratch = Scratch::in_public();
    let path = scratch.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let script = format!(
        "s = socket.socket(socket.AF_UNIX); attempt('connect', lambda: s.connect('{}'))",
        path.display()
    );
    in_each_tier_asking(
        &shell(),
        |_, request| request.allow(),
        |sandbox, asked| {
            assert_eq!(python(sandbox, &script), "connect None\n");
            let asked = asked();
            assert_eq!(asked.len(), 1, "{asked:?}");
            listener.accept().unwrap();
        },
    );
}
