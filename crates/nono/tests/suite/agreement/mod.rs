//! What the tiers do, what `explain` says, what is on record and what happens without a sandbox, for
//! random policies and random calls: whatever the rules allow ends as it does outside, with the same
//! errno and the same tree; whatever they refuse fails in each tier and is on record as refused, and
//! nothing else is.
//!
//! `NONO_AGREEMENT_SECONDS` draws new cases for so long; `NONO_AGREEMENT_SEED` runs one
//! case again.

mod call;
mod model;
mod tree;

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command as HostCommand, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nono::{Child, Command, Event, Observe, Options, Question, Right, Sandbox, TierName};

use crate::common::{Scratch, in_tier};
use call::Call;
use model::Rules;
use tree::{Random, Tree, listing};

const AGENT: &str = include_str!("agent.py");
const CALLS: usize = 60;

/// An agent that makes calls when it is told to.
struct Agent {
    told: PipeWriter,
    answers: BufReader<PipeReader>,
}

impl Agent {
    fn pipes() -> (Self, OwnedFd, OwnedFd) {
        let ((input, told), (answers, output)) =
            (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        (Agent { told, answers: BufReader::new(answers) }, input.into(), output.into())
    }

    fn inside(sandbox: &Sandbox, root: &Path) -> (Self, Child) {
        let (mut agent, input, output) = Agent::pipes();
        let errors = std::io::stderr().as_fd().try_clone_to_owned().unwrap();
        let command = Command::new(["/usr/bin/python3", "-I", "-S", "-c", AGENT]).cwd(root);
        let child = sandbox.spawn(command.stdio(vec![input, output, errors])).unwrap();
        agent.expect_ready();
        (agent, child)
    }

    fn outside(root: &Path) -> (Self, std::process::Child) {
        let (mut agent, input, output) = Agent::pipes();
        let child = HostCommand::new("/usr/bin/python3")
            .args(["-I", "-S", "-c", AGENT, "outside"])
            .current_dir(root)
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .spawn();
        let child = child.unwrap();
        agent.expect_ready();
        (agent, child)
    }

    fn expect_ready(&mut self) {
        assert_eq!(self.answer(), "ready");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    /// The errno that a call ended with, and what there is to show, with the tree's place left out.
    fn make(&mut self, call: &Call, drawn_for: &Path, root: &Path) -> (i32, String) {
        writeln!(self.told, "{}", call.line(drawn_for, root)).unwrap();
        let answer = self.answer();
        let (errno, shown) =
            answer.split_once('\t').unwrap_or_else(|| panic!("{answer:?} to {call:?}"));
        (errno.parse().unwrap(), shown.replace(root.to_str().unwrap(), ""))
    }
}

/// One tree with a sandbox.
struct Side {
    root: PathBuf,
    sandbox: Sandbox,
    agent: Agent,
    child: Child,
}

/// How a call ended on one side.
#[derive(Debug)]
struct Outcome {
    errno: i32,
    shown: String,
    events: Vec<Event>,
}

impl Side {
    fn new(root: PathBuf, rules: &Rules, options: &Options) -> Self {
        let sandbox = Sandbox::create(&rules.capabilities(&root), options).unwrap();
        let (agent, child) = Agent::inside(&sandbox, &root);
        let _ = sandbox.events().take(usize::MAX);
        Side { root, sandbox, agent, child }
    }

    fn make(&mut self, call: &Call, drawn_for: &Path) -> Outcome {
        let (errno, shown) = self.agent.make(call, drawn_for, &self.root);
        let (mut events, lost) = self.sandbox.events().take(usize::MAX);
        assert_eq!(lost, nono::Lost::default());
        // A program that starts does things of its own.
        events.retain(|event| call.operation().is_none_or(|wanted| event.operation == wanted));
        Outcome { errno, shown, events }
    }

    fn explain(&self, path: &Path, right: Right) -> bool {
        self.sandbox.explain(&Question::Path(self.root.join(path), right)).unwrap().allowed
    }
}

impl Outcome {
    fn is_refused(&self) -> bool {
        self.events.iter().any(|event| event.refused.is_some())
    }

    fn is_refusal(&self) -> bool {
        matches!(self.errno, libc::EACCES | libc::EPERM | libc::EROFS | libc::EXDEV)
    }
}

struct Case {
    rules: Rules,
    observe: Observe,
    sides: Vec<Side>,
    outside: (Agent, std::process::Child),
    root: PathBuf,
}

impl Case {
    fn new(
        scratch: &Scratch,
        rules: &Rules,
        tree: &Tree,
        observe: Observe,
        tiers: &[TierName],
    ) -> Self {
        let tool = std::fs::read("/bin/true").unwrap();
        let made = |name: &str| {
            let root = scratch.path().join(name);
            tree.build(&root, &tool);
            root
        };
        let root = made("o");
        let mut rules = rules.clone();
        rules.look_around(&root);
        let sides = tiers.iter().map(|tier| {
            let options = Options { observe, ..in_tier(*tier) };
            Side::new(made(&tier.as_str()[..1]), &rules, &options)
        });
        let sides = sides.collect();
        let outside = Agent::outside(&root);
        Case { rules, observe, sides, outside, root }
    }

    /// Makes a call everywhere and compares.
    fn compare(&mut self, call: &Call) -> Result<(), String> {
        let expected = call.expected(&self.rules, self.outside.1.id(), &self.root, &self.root);
        if expected.moves_grant && !expected.refused {
            return Ok(());
        }
        for side in &self.sides {
            for (path, right, refused) in &expected.asked {
                if side.explain(path, *right) == *refused {
                    return Err(format!("explain: {path:?} {right:?}: expected refused {refused}"));
                }
            }
        }
        let mut ended = Vec::new();
        for side in &mut self.sides {
            let outcome = side.make(call, &self.root);
            ended.push(outcome);
        }
        let first = &ended[0];
        if expected.is_border && ended.iter().all(|outcome| outcome.errno == libc::EXDEV) {
            return Ok(());
        }
        let told = match self.observe {
            Observe::All => true,
            Observe::Changes => !call.is_reading(),
            Observe::Off => false,
        };
        if told {
            for outcome in &ended {
                check_record(call, outcome)?;
            }
            if ended.iter().any(|outcome| outcome.is_refused() != first.is_refused()) {
                return Err(format!("refused in one tier only: {ended:?}"));
            }
        }
        let refused = if told {
            first.is_refused()
        } else {
            expected.refused && ended.iter().all(Outcome::is_refusal)
        };
        if refused && !expected.refused {
            return Err(format!("refused by no rule: {ended:?}"));
        }
        if expected.refused && ended.iter().any(|outcome| outcome.errno == 0) {
            return Err(format!("not refused: {ended:?}"));
        }
        if refused {
            return Ok(());
        }
        let (errno, shown) = self.outside.0.make(call, &self.root, &self.root);
        for outcome in &ended {
            // Where nobody but the mounts judges, the kernel looks at them before anything else, and
            // the call fails for that reason instead of its own.
            let by_mounts = self.observe == Observe::Off
                && errno != 0
                && matches!(outcome.errno, libc::EROFS | libc::EXDEV);
            if !by_mounts && (outcome.errno, &outcome.shown) != (errno, &shown) {
                return Err(format!("outside: {errno} {shown:?}, inside {outcome:?}"));
            }
        }
        Ok(())
    }

    fn end(self) {
        for side in self.sides {
            drop(side.agent);
            let _ = side.child.wait();
        }
        let (agent, mut child) = self.outside;
        drop(agent);
        child.wait().unwrap();
    }
}

/// One event a call, with its errno; refused ones failed as such.
fn check_record(call: &Call, outcome: &Outcome) -> Result<(), String> {
    let events = &outcome.events;
    let expects_event = match call {
        Call::Exec(_) => outcome.errno == 0 || outcome.is_refused(),
        _ => call.recorded(),
    };
    if events.len() != usize::from(expects_event) {
        return Err(format!("{} events: {outcome:?}", events.len()));
    }
    for event in events {
        if event.errno.is_some_and(|errno| errno != outcome.errno) {
            return Err(format!("recorded with another errno: {outcome:?}"));
        }
        if event.refused.is_some() && !outcome.is_refusal() {
            return Err(format!("recorded as refused: {outcome:?}"));
        }
    }
    Ok(())
}

/// Runs the case of a seed, and says how many calls agreed, or all that it takes to understand which
/// did not.
fn run_case(seed: u64, tiers: &[TierName]) -> Result<usize, String> {
    let scratch = Scratch::in_public();
    let mut random = Random(seed);
    let tree = Tree::draw(&mut random);
    let rules = tree.rules(&mut random);
    let observe = *random.pick(&[Observe::All, Observe::All, Observe::Changes, Observe::Off]);
    let mut case = Case::new(&scratch, &rules, &tree, observe, tiers);
    let mut made = Vec::new();
    let mut before = listing(&case.root);
    let mut disagreement = None;
    while made.len() < CALLS && disagreement.is_none() {
        let call = Call::draw(&mut random, &tree, &case.root);
        made.push(call.line(&case.root, Path::new("")).replace('\t', " "));
        let after = |case: &Case| {
            let outside = listing(&case.root);
            let differs = |side: &Side| {
                let inside = listing(&side.root);
                let odd = |a: &[String], b: &[String]| {
                    a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>()
                };
                (inside != outside).then(|| {
                    format!(
                        "inside {:?}, outside {:?}",
                        odd(&inside, &outside),
                        odd(&outside, &inside)
                    )
                })
            };
            (case.sides.iter().find_map(differs), outside)
        };
        let compared = case.compare(&call);
        let (differs, outside) = after(&case);
        disagreement = compared.err().or(differs);
        if disagreement.is_none() {
            before = outside;
        }
    }
    case.end();
    match disagreement {
        None => Ok(made.len()),
        Some(disagreement) => {
            let last = made.split_off(made.len().saturating_sub(8));
            Err(format!(
                "seed {seed}: {disagreement}\n{observe:?} {rules:?}\n{last:#?}\n{before:#?}"
            ))
        }
    }
}

#[test]
fn tiers_explain_record_and_kernel_agree() {
    let mut tiers = Vec::new();
    for tier in nono::support().tiers {
        match tier.unavailable {
            None => tiers.push(tier.name),
            Some(reason) => println!("SKIPPED: the {} tier: {reason}", tier.name.as_str()),
        }
    }
    let number = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    if let Some(seed) = number("NONO_AGREEMENT_SEED") {
        run_case(seed, &tiers).unwrap_or_else(|disagreement| panic!("{disagreement}"));
        return;
    }
    /// Without a time, the same cases each time: a check that fails by chance says nothing of a change.
    const CASES: u64 = 60;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let (end, first) = match number("NONO_AGREEMENT_SECONDS") {
        Some(seconds) => (Some(Instant::now() + Duration::from_secs(seconds)), now),
        None => (None, 1),
    };
    let (mut cases, mut calls) = (0, 0);
    while end.map_or(cases < CASES, |end| Instant::now() < end) {
        calls += run_case(first.wrapping_add(cases), &tiers)
            .unwrap_or_else(|disagreement| panic!("{disagreement}"));
        cases += 1;
    }
    println!("{calls} calls in {cases} sandboxes of each tier agree");
    assert!(calls > 0);
}
