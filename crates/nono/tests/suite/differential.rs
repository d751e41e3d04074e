//! Real programs leave the same trees inside as outside: contents, modes, links, and the times that
//! they set, with every call told of and a pattern denied.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command as HostCommand;

use nono::{Command, Observe, Options, Sandbox};

use crate::common::{Scratch, in_tier, run_command, shell};

/// Each begins with the tool that it takes. They run in an empty directory, next to `../input`.
const SCRIPTS: &[&str] = &[
    "git init -q -b main r; cd r; git config user.name a; git config user.email a@a.test; \
     git config pack.threads 1; cp -r ../../input/. .; chmod +x b.c; ln -s b.c link; git add .; \
     git commit -qm one; git mv b.c c.c; echo x >>a.h; git commit -qam two; git checkout -qb topic; \
     git rm -q a.h; git commit -qm three; git checkout -q main; git merge -q topic -m four; \
     git gc -q; git status --short; git log --format=%H%s; git fsck --strict; rm .git/index",
    "make -s -f ../input/Makefile SOURCE=../input; ./program",
    "tar -C ../input -cf all.tar .; mkdir out; tar -C out -xpf all.tar; rm all.tar; ls out",
    "cp -a ../input copy; ln copy/b.c hard; cp -al copy linked; mv copy moved; touch -d @1000 hard; ls -R",
    "rsync -a ../input/ copy/; rsync -a --delete ../input/deep/ copy/; ls -R",
    "python3 -c \"import json, email, http.client, sqlite3, shutil; \
     shutil.copytree('../input', 'copy', symlinks=True); \
     c = sqlite3.connect('db'); c.execute('create table t (x)'); c.commit()\"; ls -R copy",
];

/// Everything below a directory; times where programs set them, which is long ago.
fn listing(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let file = path.symlink_metadata().unwrap();
            let contents = if file.is_dir() {
                ahead.push(path.clone());
                Vec::new()
            } else if file.is_symlink() {
                path.read_link().unwrap().into_os_string().into_encoded_bytes()
            } else {
                std::fs::read(&path).unwrap()
            };
            let links = if file.is_dir() { 0 } else { file.nlink() };
            let time = (file.mtime() < 1_000_000_000).then_some((file.mtime(), file.mtime_nsec()));
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.push(format!("{name} {:o} {links} {time:?} {contents:?}", file.mode()));
        }
    }
    found.sort();
    found
}

#[test]
fn programs_leave_the_same_trees_inside_and_outside() {
    let scratch = Scratch::in_public();
    scratch.file("input/a.h", "#define A 1\n");
    scratch.file("input/b.c", "#include \"a.h\"\nint main(void) { return A - 1; }\n");
    scratch.file("input/deep/down/file", "deep");
    scratch
        .file("input/Makefile", "program: b.o\n\tcc -o $@ $<\nb.o:\n\tcc -c -o $@ $(SOURCE)/b.c\n");
    std::os::unix::fs::symlink("deep/down", scratch.path().join("input/link")).unwrap();
    let aged = HostCommand::new("find")
        .arg(scratch.path().join("input"))
        .args(["-exec", "touch", "-h", "-d", "@500000000.123456789", "{}", "+"])
        .status();
    assert!(aged.unwrap().success());
    let environment = [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/nowhere"),
        ("LC_ALL", "C"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_SYSTEM", "/dev/null"),
        ("GIT_AUTHOR_DATE", "@1000000000 +0000"),
        ("GIT_COMMITTER_DATE", "@1000000000 +0000"),
    ];
    for (number, script) in SCRIPTS.iter().enumerate() {
        let tool = script.split(' ').next().unwrap();
        if !Path::new("/usr/bin").join(tool).exists() {
            println!("SKIPPED: {tool} inside and outside: it is not installed");
            continue;
        }
        let script = format!("set -e; umask 022; {script}");
        let place = |side: &str| {
            let place = scratch.path().join(format!("{side}{number}"));
            std::fs::create_dir(&place).unwrap();
            place
        };
        let outside = place("outside");
        let output = HostCommand::new("/bin/sh")
            .args(["-c", &format!("exec 2>&1; {script}")])
            .current_dir(&outside)
            .env_clear()
            .envs(environment)
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{script}\n{printed}");
        for tier in nono::support().tiers {
            if let Some(reason) = tier.unavailable {
                println!("SKIPPED: the {} tier: {reason}", tier.name.as_str());
                continue;
            }
            let inside = place(tier.name.as_str());
            let capabilities = shell()
                .allow_exec("/usr/lib/git-core")
                .allow_exec("/usr/lib/gcc")
                .allow_exec(&inside)
                .allow_read(scratch.path().join("input"))
                .allow_write(&inside)
                .deny("**/*.pem");
            let options = Options { observe: Observe::All, ..in_tier(tier.name) };
            let sandbox = Sandbox::create(&capabilities, &options).unwrap();
            let command = Command::new(["/bin/sh", "-c", &script]).cwd(&inside);
            let command = environment
                .iter()
                .fold(command, |command, (name, value)| command.env(*name, *value));
            let (exit, told) = run_command(&sandbox, command);
            assert!(exit.status.success(), "tier {}: {script}\n{told}", tier.name.as_str());
            assert_eq!(told, printed, "tier {}: {script}", tier.name.as_str());
            let (a, b) = (listing(&inside), listing(&outside));
            assert!(!a.is_empty(), "{script}");
            let odd: Vec<_> = a
                .iter()
                .filter(|line| !b.contains(line))
                .chain(b.iter().filter(|line| !a.contains(line)))
                .map(|line| line.chars().take(200).collect::<String>())
                .collect();
            assert!(odd.is_empty(), "tier {}: {script}\n{odd:#?}", tier.name.as_str());
        }
    }
}
