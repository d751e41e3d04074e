//! Programs that somebody grants while the sandbox stands, in the namespaces tier: this program, this
//! time, as it was when it was granted.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nono::{Approver, Capabilities, Command, Event, Options, Request, Sandbox, TierName};

use crate::common::{Scratch, in_tier, run_command};

type Asked = Arc<Mutex<Vec<String>>>;

/// A sandbox in which somebody is asked, unless there can be none of the tier.
fn asking(
    tier: TierName,
    capabilities: &Capabilities,
    answer: impl Fn(&Event, Request) + Send + Sync + 'static,
) -> Option<(Sandbox, Asked)> {
    if let Some(reason) = nono::support().tiers.into_iter().find(|it| it.name == tier)?.unavailable
    {
        println!("SKIPPED: the {} tier: {reason}", tier.as_str());
        return None;
    }
    let asked = Asked::default();
    let log = asked.clone();
    let approver = Approver::new(move |event, request| {
        let nono::Target::Path { path, .. } = &event.target else { return };
        log.lock().unwrap().push(format!("{} {}", event.operation.as_str(), path.display()));
        answer(&event, request);
    });
    let options = Options { approver: Some(approver), ..in_tier(tier) };
    Some((Sandbox::create(capabilities, &options).unwrap(), asked))
}

/// A shell and what it takes to read and write, and nothing else that could be executed.
fn only_a_shell() -> Capabilities {
    Capabilities::new().allow_exec("/bin/sh").allow_read("/usr").allow_read("/lib")
}

fn sh(sandbox: &Sandbox, script: &str) -> String {
    let argv = ["/bin/sh", "-c", script];
    run_command(sandbox, Command::new(argv)).1
}

fn taken(asked: &Asked) -> Vec<String> {
    std::mem::take(&mut *asked.lock().unwrap())
}

/// A copy of a small program that answers by what it is called.
fn program(scratch: &Scratch, name: &str, of: &str) -> String {
    let path = scratch.path().join(name);
    std::fs::copy(Path::new(of).canonicalize().unwrap(), &path).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn a_program_runs_on_somebodys_word_each_time_it_is_given() {
    let scratch = Scratch::in_public();
    let say = program(&scratch, "say", "/bin/echo");
    let script = scratch.file("script", "#!/bin/sh\necho \"$0 $1\"\n");
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let script = script.display().to_string();
    let Some((sandbox, asked)) =
        asking(TierName::Namespaces, &only_a_shell(), |_, request| request.allow())
    else {
        return;
    };
    for _ in 0..3 {
        let output = sh(&sandbox, &format!("{say} hello; {say} again; {script} too"));
        assert_eq!(output, format!("hello\nagain\n{script} too\n"));
        let questions = [&say, &say, &script].map(|path| format!("execute {path}"));
        assert_eq!(taken(&asked), questions);
    }
    let (events, _) = sandbox.events().take(usize::MAX);
    let approved = events.iter().filter(|event| event.approved);
    assert!(approved.clone().all(|event| event.refused.is_none()));
    assert_eq!(approved.count(), 9);
}

#[test]
fn a_program_is_the_sandboxs_own_again_when_it_has_ended() {
    let scratch = Scratch::in_public();
    let script = scratch.file("script", "#!/bin/sh\necho ran\n");
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let capabilities = only_a_shell().allow_write(scratch.path());
    let Some((sandbox, _)) =
        asking(TierName::Namespaces, &capabilities, |_, request| request.allow())
    else {
        return;
    };
    for turn in 1..4 {
        let script = script.display();
        assert_eq!(
            sh(&sandbox, &format!("{script}; echo echo more >>{script}")).lines().count(),
            turn
        );
    }
}

#[test]
fn a_program_that_is_refused_does_not_run() {
    let scratch = Scratch::in_public();
    let say = program(&scratch, "say", "/bin/echo");
    for tier in [TierName::Namespaces, TierName::Flat] {
        let Some((sandbox, asked)) = asking(tier, &only_a_shell(), |_, request| request.deny())
        else {
            continue;
        };
        let output = sh(&sandbox, &format!("{say} hello"));
        assert!(output.contains("Permission denied") && !output.contains("hello"), "{output}");
        // Without mounts of its own nothing can be granted, so nobody is asked.
        assert_eq!(taken(&asked).len(), usize::from(tier == TierName::Namespaces));
        assert_eq!(sandbox.events().refused(), 1);
    }
}

#[test]
fn nobody_is_asked_about_what_cannot_or_must_not_run() {
    let scratch = Scratch::in_public();
    let (say, denied) =
        (program(&scratch, "say", "/bin/echo"), program(&scratch, "denied", "/bin/echo"));
    std::fs::set_permissions(&say, Permissions::from_mode(0o610)).unwrap(); // not for its owner
    let capabilities = only_a_shell().deny(&denied);
    let Some((sandbox, asked)) =
        asking(TierName::Namespaces, &capabilities, |_, request| request.allow())
    else {
        return;
    };
    let loader = "/lib64/ld-linux-x86-64.so.2";
    let output = sh(
        &sandbox,
        &format!("{say} a; {denied} b; {loader} /bin/echo c; {} d", scratch.path().display()),
    );
    assert!(output.lines().all(|line| line.len() > 1), "{output}");
    assert_eq!(taken(&asked), Vec::<String>::new());
}

#[test]
fn one_word_is_for_one_program_and_one_start() {
    let scratch = Scratch::in_public();
    let (say, other) =
        (program(&scratch, "say", "/bin/sleep"), program(&scratch, "other", "/bin/sleep"));
    let count = Mutex::new(0);
    let answer = move |_: &Event, request: Request| {
        let mut count = count.lock().unwrap();
        *count += 1;
        if *count == 1 { request.allow() } else { request.deny() }
    };
    let Some((sandbox, asked)) = asking(TierName::Namespaces, &only_a_shell(), answer) else {
        return;
    };
    // While the first still runs, and after it.
    let script = format!(
        "{say} 30 & while [ /proc/$!/exe -ef /bin/sh ]; do :; done; {say} 0; {other} 0; kill $!; wait; {say} 0"
    );
    let output = sh(&sandbox, &script);
    assert_eq!(output.matches("Permission denied").count(), 3, "{output}");
    let questions = [&say, &say, &other, &say].map(|path| format!("execute {path}"));
    assert_eq!(taken(&asked), questions);
}

#[test]
fn an_answer_may_come_when_the_one_before_it_has_ended() {
    let scratch = Scratch::in_public();
    let say = program(&scratch, "say", "/bin/sleep");
    let first = Mutex::new(true);
    let answer = move |_: &Event, request: Request| {
        if std::mem::take(&mut *first.lock().unwrap()) {
            return request.allow();
        }
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(500));
            request.allow();
        });
    };
    let capabilities = only_a_shell().allow_read(scratch.path());
    let Some((sandbox, asked)) = asking(TierName::Namespaces, &capabilities, answer) else {
        return;
    };
    // Somebody makes calls all the time, so what has ended is noticed.
    let running = "while [ /proc/$!/exe -ef /bin/sh ]; do :; done";
    let script = format!(
        "while :; do : <{say}; done & calls=$!; {say} 0.2 & {running}
         {say} 0 && echo again; {say} 0 && echo last; kill $calls"
    );
    assert_eq!(sh(&sandbox, &script), "again\nlast\n");
    assert_eq!(taken(&asked).len(), 3);
}

#[test]
fn what_was_granted_cannot_be_changed_afterwards() {
    let scratch = Scratch::in_public();
    let say = program(&scratch, "say", "/bin/sleep");
    let capabilities = only_a_shell().allow_write(scratch.path()).allow_exec("cp").allow_exec("mv");
    let Some((sandbox, asked)) =
        asking(TierName::Namespaces, &capabilities, |_, request| request.allow())
    else {
        return;
    };
    // While it runs, writing is refused; and what is put in its place is another program.
    let script = format!(
        "{say} 30 & while [ /proc/$!/exe -ef /bin/sh ]; do :; done
         echo x >>{say} && echo wrote
         cp /bin/true {say}.new && mv {say}.new {say} && {say} && kill $! && echo replaced"
    );
    let output = sh(&sandbox, &script);
    assert!(output.ends_with("replaced\n") && !output.contains("wrote"), "{output}");
    assert_eq!(taken(&asked).len(), 2);
}

#[test]
fn a_program_that_is_changed_before_the_answer_is_not_granted() {
    let scratch = Scratch::in_public();
    let say = program(&scratch, "say", "/bin/echo");
    let written = say.clone();
    let answer = move |_: &Event, request: Request| {
        use std::io::Write;
        let mut file = std::fs::File::options().append(true).open(&written).unwrap();
        file.write_all(b"more").unwrap();
        drop(file);
        request.allow();
    };
    let Some((sandbox, _)) = asking(TierName::Namespaces, &only_a_shell(), answer) else { return };
    let output = sh(&sandbox, &format!("{say} hello"));
    assert!(output.contains("Text file busy"), "{output}");
}

#[test]
fn a_path_that_changes_meanwhile_executes_nothing_else() {
    let scratch = Scratch::in_public();
    let (say, _) =
        (program(&scratch, "say", "/bin/echo"), program(&scratch, "not", "/usr/bin/printf"));
    let answer = |event: &Event, request: Request| match &event.target {
        nono::Target::Path { path, .. } if path.ends_with("say") => request.allow(),
        _ => request.deny(),
    };
    let capabilities = only_a_shell().allow_exec("/usr/bin/python3");
    let Some((sandbox, _)) = asking(TierName::Namespaces, &capabilities, answer) else { return };
    let script = format!(
        r"
import ctypes, threading
libc = ctypes.CDLL(None)
path = ctypes.create_string_buffer(b'{say}')
place, names, going = len(path.value) - 3, (b'say', b'not'), True
def flip():
    while going:
        for name in names: ctypes.memmove(ctypes.addressof(path) + place, name, 3)
threading.Thread(target=flip, daemon=True).start()
argv = (ctypes.c_char_p * 3)(b'x', b'%d', None)
for turn in range(100): libc.execve(path, argv, None)
"
    );
    let mut said = 0;
    for _ in 0..20 {
        let argv = ["/usr/bin/python3", "-I", "-S", "-c", &script];
        match run_command(&sandbox, Command::new(argv)).1.as_str() {
            "%d\n" => said += 1,
            output => assert_eq!(output, ""),
        }
    }
    assert!(said > 0);
}

#[test]
fn for_good_is_asked_about_once_and_more_programs_than_places_run() {
    let scratch = Scratch::in_public();
    let programs: Vec<_> =
        (0..40).map(|n| program(&scratch, &format!("say{n}"), "/bin/echo")).collect();
    let Some((sandbox, asked)) =
        asking(TierName::Namespaces, &only_a_shell(), |_, request| request.allow_always())
    else {
        return;
    };
    let script: String = programs.iter().map(|path| format!("{path} hello\n")).collect();
    for _ in 0..2 {
        assert_eq!(sh(&sandbox, &script), "hello\n".repeat(40));
    }
    assert_eq!(taken(&asked).len(), 40);
}
