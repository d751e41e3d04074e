//! A seccomp filter from rules, compiled to classic BPF.
//!
//! A [`Filter`] can only be made by [`Filter::compile`], which puts the architecture check first: a
//! number means another call on another architecture (`seccomp(2)`), so a filter without that check
//! can be walked around.
//!
//! Calls are found by binary search over their numbers. The kernel runs a new filter once for each
//! call number to precompute which are always allowed, so a long linear chain would cost every
//! command at its start.

use std::collections::BTreeMap;

/// One BPF instruction, as the kernel takes it (`struct sock_filter`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    operand: u32,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is made.
    Allow,
    /// It is not made, and fails with this errno; with 0 it seems to have been made.
    Errno(i32),
    /// It is parked until the supervisor has answered it.
    Notify,
}

/// A test of one half of an argument: of the lower one, which is all that the kernel looks at for the flags,
/// commands and families tested here (they are `int` or `unsigned int` in the kernel); a pointer has both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Test {
    half: Half,
    mask: u32,
    relation: Relation,
    value: u32,
}

#[derive(Clone, Copy, Debug)]
enum Relation {
    Equal,
    NotEqual,
}

/// 32 bits of the six arguments, by their place among all of them: the lower half of each comes first.
#[derive(Clone, Copy, Debug)]
struct Half(usize);

impl Half {
    fn of(self, arguments: [u64; 6]) -> u32 {
        (arguments[self.0 / 2] >> (32 * (self.0 % 2))) as u32
    }
}

/// The lower half of argument `index`.
pub(crate) fn argument(index: usize) -> Masked {
    Masked { half: Half(2 * index), mask: u32::MAX }
}

/// The upper half of argument `index`.
pub(crate) fn upper_half(index: usize) -> Masked {
    Masked { half: Half(2 * index + 1), mask: u32::MAX }
}

/// Half of an argument under a mask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Masked {
    half: Half,
    mask: u32,
}

impl Masked {
    pub(crate) fn mask(self, mask: u32) -> Self {
        Masked { mask, ..self }
    }

    pub(crate) fn is(self, value: i32) -> Test {
        self.test(Relation::Equal, value)
    }

    pub(crate) fn is_not(self, value: i32) -> Test {
        self.test(Relation::NotEqual, value)
    }

    fn test(self, relation: Relation, value: i32) -> Test {
        Test { half: self.half, mask: self.mask, relation, value: value as u32 }
    }
}

/// What happens to one call: the action of the first clause whose tests all hold, else `otherwise`.
#[derive(Clone, Debug)]
struct Rule {
    clauses: Vec<(Vec<Test>, Action)>,
    otherwise: Action,
}

/// Rules by call number.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    by_number: BTreeMap<u32, Rule>,
    last_known: u32,
}

impl Rules {
    /// All calls up to `last_known` are allowed; newer ones do not exist (ENOSYS), because nobody
    /// has looked at them yet.
    pub(crate) fn allowing_up_to(last_known: i64) -> Self {
        Rules { by_number: BTreeMap::new(), last_known: last_known as u32 }
    }

    /// Refuses calls altogether.
    pub(crate) fn refuse(&mut self, errno: i32, numbers: &[i64]) {
        for number in numbers {
            self.set(*number, Rule { clauses: Vec::new(), otherwise: Action::Errno(errno) });
        }
    }

    /// Hands calls to the supervisor, whatever their arguments.
    pub(crate) fn notify(&mut self, numbers: &[i64]) {
        for number in numbers {
            self.set(*number, Rule { clauses: Vec::new(), otherwise: Action::Notify });
        }
    }

    /// Decides a call by its arguments.
    pub(crate) fn decide(
        &mut self,
        number: i64,
        clauses: impl IntoIterator<Item = (Vec<Test>, Action)>,
        otherwise: Action,
    ) {
        self.set(number, Rule { clauses: clauses.into_iter().collect(), otherwise });
    }

    /// Decides a call by its arguments before what else decides it.
    pub(crate) fn decide_first(
        &mut self,
        number: i64,
        clauses: impl IntoIterator<Item = (Vec<Test>, Action)>,
    ) {
        let none = Rule { clauses: Vec::new(), otherwise: Action::Allow };
        let rule = self.by_number.entry(number as u32).or_insert(none);
        rule.clauses.splice(0..0, clauses);
    }

    /// What these rules do with a call.
    pub(crate) fn evaluate(&self, number: i64, arguments: [u64; 6]) -> Action {
        let Some(rule) = self.by_number.get(&(number as u32)) else { return Action::Allow };
        let holds = |test: &Test| {
            let value = test.half.of(arguments) & test.mask;
            (value == test.value) == matches!(test.relation, Relation::Equal)
        };
        let clause = rule.clauses.iter().find(|(tests, _)| tests.iter().all(holds));
        clause.map_or(rule.otherwise, |(_, action)| *action)
    }

    /// The same rules with every refusal handed to the supervisor, who then refuses. Calls that do
    /// not exist (ENOSYS) stay so: programs ask for them to find out. What seems to be made is not refused.
    pub(crate) fn with_refusals_notified(&self) -> Self {
        let notified = |action: &mut Action| {
            if matches!(action, Action::Errno(errno) if ![0, libc::ENOSYS].contains(errno)) {
                *action = Action::Notify;
            }
        };
        let mut rules = self.clone();
        for rule in rules.by_number.values_mut() {
            rule.clauses.iter_mut().for_each(|(_, action)| notified(action));
            notified(&mut rule.otherwise);
        }
        rules
    }

    /// Takes the rule for a call away again.
    pub(crate) fn allow(&mut self, number: i64) {
        self.by_number.remove(&(number as u32));
    }

    fn set(&mut self, number: i64, rule: Rule) {
        let previous = self.by_number.insert(number as u32, rule);
        debug_assert!(previous.is_none(), "two rules for system call {number}");
    }
}

/// A filter ready for the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Filter(Vec<Instruction>);

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xC000_003E; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xC000_00B7; // AUDIT_ARCH_AARCH64

/// x32 calls carry this bit and the native architecture's id (arch/x86/include/asm/unistd.h).
const X32_BIT: u32 = 0x4000_0000;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

impl Filter {
    /// Compiles rules for this machine's native architecture; calls of any other do not exist.
    pub(crate) fn compile(rules: &Rules) -> Self {
        let absent = Action::Errno(libc::ENOSYS);
        let mut code = vec![
            statement(LOAD, ARCHITECTURE),
            branch(JUMP_EQUAL, NATIVE, 1, 0),
            give(absent),
            statement(LOAD, NUMBER),
            branch(JUMP_AT_LEAST, X32_BIT, 0, 1),
            give(absent),
        ];
        code.extend(search(&leaves(rules, absent)));
        Filter(code)
    }

    pub(crate) fn instructions(&self) -> &[Instruction] {
        &self.0
    }
}

/// Code for all calls from `first` up to the next leaf's.
struct Leaf {
    first: u32,
    code: Vec<Instruction>,
}

fn leaves(rules: &Rules, absent: Action) -> Vec<Leaf> {
    let allowed = |first| Leaf { first, code: vec![give(Action::Allow)] };
    let mut leaves = vec![allowed(0)];
    for (number, rule) in &rules.by_number {
        if leaves.last().is_some_and(|last| last.first == *number) {
            leaves.pop();
        }
        leaves.push(Leaf { first: *number, code: decide(rule) });
        leaves.push(allowed(number + 1));
    }
    leaves.retain(|leaf| leaf.first <= rules.last_known);
    leaves.push(Leaf { first: rules.last_known + 1, code: vec![give(absent)] });
    leaves.dedup_by(|next, previous| next.code == previous.code && previous.code.len() == 1);
    leaves
}

fn search(leaves: &[Leaf]) -> Vec<Instruction> {
    if let [leaf] = leaves {
        return leaf.code.clone();
    }
    let (low, high) = leaves.split_at(leaves.len() / 2);
    let low_code = search(low);
    let mut code = Vec::new();
    match u8::try_from(low_code.len()) {
        Ok(over) => code.push(branch(JUMP_AT_LEAST, high[0].first, over, 0)),
        // A conditional jump reaches 255 instructions; an unconditional one any.
        Err(_) => {
            code.push(branch(JUMP_AT_LEAST, high[0].first, 0, 1));
            code.push(statement(JUMP, low_code.len() as u32));
        }
    }
    code.extend(low_code);
    code.extend(search(high));
    code
}

fn decide(rule: &Rule) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (tests, action) in &rule.clauses {
        let lengths = tests.iter().map(|test| if test.mask == u32::MAX { 2 } else { 3 });
        let mut to_next_clause: usize = lengths.sum::<usize>() + 1;
        for test in tests {
            code.push(statement(LOAD, ARGUMENTS + 4 * test.half.0 as u32)); // little-endian
            to_next_clause -= 2;
            if test.mask != u32::MAX {
                code.push(statement(AND, test.mask));
                to_next_clause -= 1;
            }
            let skip = to_next_clause as u8; // clauses are a handful of tests
            code.push(match test.relation {
                Relation::Equal => branch(JUMP_EQUAL, test.value, 0, skip),
                Relation::NotEqual => branch(JUMP_EQUAL, test.value, skip, 0),
            });
        }
        code.push(give(*action));
    }
    code.push(give(rule.otherwise));
    code
}

fn statement(code: u16, operand: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, operand }
}

fn branch(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

fn give(action: Action) -> Instruction {
    let operand = match action {
        Action::Allow => libc::SECCOMP_RET_ALLOW,
        Action::Errno(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
        Action::Notify => libc::SECCOMP_RET_USER_NOTIF,
    };
    statement(RETURN, operand)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel would; panics where the kernel would have refused to load it.
    fn run(filter: &Filter, architecture: u32, number: u32, arguments: [u64; 6]) -> Action {
        let mut accumulator = 0u32;
        let mut at = 0usize;
        loop {
            let Instruction { code, jump_true, jump_false, operand } = filter.0[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { jump_true } else { jump_false });
            match code {
                LOAD => {
                    accumulator = match operand {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        offset => Half((offset - ARGUMENTS) as usize / 4).of(arguments),
                    }
                }
                AND => accumulator &= operand,
                JUMP => at += operand as usize,
                JUMP_EQUAL => at += jump(accumulator == operand),
                JUMP_AT_LEAST => at += jump(accumulator >= operand),
                RETURN if operand == libc::SECCOMP_RET_ALLOW => return Action::Allow,
                RETURN if operand == libc::SECCOMP_RET_USER_NOTIF => return Action::Notify,
                RETURN => return Action::Errno((operand & 0xffff) as i32),
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    fn sample() -> Rules {
        let mut rules = Rules::allowing_up_to(460);
        rules.refuse(libc::EPERM, &[3, 4, 5, 100, 300]);
        rules.notify(&[218]);
        rules.decide(
            41,
            [
                (vec![argument(0).is(1), argument(1).mask(0xf).is(1)], Action::Allow),
                (vec![argument(0).is(2), argument(2).is_not(7)], Action::Errno(libc::EINVAL)),
            ],
            Action::Errno(libc::EACCES),
        );
        rules
    }

    #[test]
    fn finds_every_call() {
        let filter = Filter::compile(&sample());
        for number in 0..600 {
            let expected = match number {
                3 | 4 | 5 | 100 | 300 => Action::Errno(libc::EPERM),
                41 => Action::Errno(libc::EACCES),
                218 => Action::Notify,
                461.. => Action::Errno(libc::ENOSYS),
                _ => Action::Allow,
            };
            assert_eq!(run(&filter, NATIVE, number, [0; 6]), expected, "call {number}");
        }
    }

    #[test]
    fn evaluates_rules_as_their_filter_does() {
        let rules = sample();
        let filter = Filter::compile(&rules);
        for number in [0, 3, 41, 100, 218, 300] {
            for arguments in [[0; 6], [1, 1, 0, 0, 0, 0], [2, 0, 7, 0, 0, 0], [2, 0, 6, 0, 0, 0]] {
                let expected = run(&filter, NATIVE, number, arguments);
                assert_eq!(rules.evaluate(number.into(), arguments), expected);
                let notified = Filter::compile(&rules.with_refusals_notified());
                let expected =
                    if matches!(expected, Action::Errno(_)) { Action::Notify } else { expected };
                assert_eq!(run(&notified, NATIVE, number, arguments), expected);
            }
        }
    }

    #[test]
    fn tests_arguments_by_their_lower_half() {
        let filter = Filter::compile(&sample());
        let decide = |arguments| run(&filter, NATIVE, 41, arguments);
        assert_eq!(decide([1, 0x80001, 0, 0, 0, 0]), Action::Allow);
        assert_eq!(decide([1 | 1 << 32, 1, 0, 0, 0, 0]), Action::Allow);
        assert_eq!(decide([1, 2, 0, 0, 0, 0]), Action::Errno(libc::EACCES));
        assert_eq!(decide([2, 0, 6, 0, 0, 0]), Action::Errno(libc::EINVAL));
        assert_eq!(decide([2, 0, 7, 0, 0, 0]), Action::Errno(libc::EACCES));
    }

    #[test]
    fn knows_no_call_of_another_architecture() {
        let filter = Filter::compile(&sample());
        let i386 = 0x4000_0003;
        assert_eq!(run(&filter, i386, 1, [0; 6]), Action::Errno(libc::ENOSYS));
        assert_eq!(run(&filter, NATIVE, X32_BIT | 1, [0; 6]), Action::Errno(libc::ENOSYS));
    }

    #[test]
    fn reaches_beyond_a_conditional_jump() {
        let mut rules = Rules::allowing_up_to(1000);
        for number in 0..400 {
            rules.decide(number * 2, [(vec![argument(0).is(1)], Action::Errno(1))], Action::Allow);
        }
        let filter = Filter::compile(&rules);
        assert!(filter.0.len() > 1000);
        for number in 0..800 {
            let expected = if number % 2 == 0 { Action::Errno(1) } else { Action::Allow };
            assert_eq!(run(&filter, NATIVE, number, [1, 0, 0, 0, 0, 0]), expected);
        }
    }
}
