//! What is made on a command's behalf has the mode that its own mask leaves (`umask(2)`), whoever changed
//! that last, in whichever process or thread.

use nono::Command;

use crate::common::{Scratch, in_each_setting, run_command, shell};

const SCRIPT: &str = r"
import os, random, subprocess, sys, threading, time
place, chance = sys.argv[1], random.Random(int(sys.argv[2]))
made = 0
def make(asked):
    global made
    made += 1
    path = f'{place}/{os.getpid()}-{threading.get_ident()}-{made}'
    if made % 3: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, asked))
    else: os.mkdir(path, asked)
    return os.stat(path).st_mode & 0o777
def expect(what, mode, asked, mask):
    if mode != asked & ~mask: print(f'{what}: {asked:o} under {mask:o} became {mode:o}')
# The owner keeps its own rights, so that all of it can be deleted.
def any_mask(): return chance.randrange(0o100)
def child(work):
    pid = os.fork()
    if pid == 0:
        try: work()
        finally: sys.stdout.flush(); os._exit(0)
    os.waitpid(pid, 0)
def own(): expect('own', make(asked), asked, mask)
def inherited():
    def work():
        expect('inherited', make(asked), asked, mask)
        os.umask(mask ^ 0o077); expect('of a child', make(asked), asked, mask ^ 0o077)
    child(work); expect('after a child', make(asked), asked, mask)
def of_a_program():
    path = f'{place}/program-{chance.random()}'
    subprocess.run(['/bin/sh', '-c', f'umask {other:o}; exec mkdir {path}'], check=True)
    expect('of a program', os.stat(path).st_mode & 0o777, 0o777, other)
    expect('after a program', make(asked), asked, mask)
def shared():
    # One thread makes files all the time; once the change has returned, all it makes has the new mask.
    changed, tell = threading.Event(), []
    def maker():
        for _ in range(2000):
            was_changed = changed.is_set()
            mode = make(asked)
            if was_changed: return tell.append(mode)
    before, thread = made, threading.Thread(target=maker); thread.start()
    while made < before + 5: time.sleep(0)
    os.umask(other); changed.set(); thread.join()
    expect('shared', tell[0], asked, other); expect('shared, own', make(asked), asked, other)
    os.umask(mask)
for step in [own, inherited, of_a_program, shared] * 6:
    mask, other, asked = any_mask(), any_mask(), chance.choice([0o666, 0o777, 0o640])
    os.umask(mask); step()
print('made', made >= 60)
";

#[test]
fn modes_are_those_of_the_caller() {
    let scratch = Scratch::in_public();
    // With a supervisor of changes, and of nothing but this.
    let own = shell().allow_write(scratch.path());
    for (seed, capabilities) in [own.clone(), own.protect(false)].into_iter().enumerate() {
        in_each_setting(&capabilities, |sandbox| {
            let place = scratch.path().join("w");
            std::fs::create_dir(&place).unwrap();
            let argv = ["/usr/bin/python3", "-I", "-S", "-c", SCRIPT].map(String::from);
            let rest = [place.display().to_string(), seed.to_string()];
            let output = run_command(sandbox, Command::new(argv.into_iter().chain(rest))).1;
            assert_eq!(output, "made True\n");
            std::fs::remove_dir_all(place).unwrap();
        });
    }
}
