//! Asking somebody before an attempt is refused.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::{Event, Operation, Target};
use crate::judge::Right;

/// Whoever is asked about attempts that nothing grants, while their process waits.
///
/// What is granted is exactly what was asked: this file, opened in this way; it widens nothing. Asked
/// about are opening and creating files, connecting to unix sockets, in the tier `namespaces` executing
/// programs, and in the tier `flat` TCP connections. What a `deny` refuses stays refused.
///
/// A program is granted as it is then, for this start of it: a copy takes its place inside while it
/// runs, so it is read-only there for so long. What interprets it must be granted already. In the tier
/// `flat` there are no mounts, and no process can widen its own Landlock domain: programs are refused.
///
/// While 128 requests of a sandbox have no answer, its next ones are refused.
#[derive(Clone)]
pub struct Approver(Arc<dyn Fn(Event, Request) + Send + Sync>);

impl Approver {
    /// `ask` is called on a thread of nono's that it must not hold up. It may keep the request and
    /// answer it later, from any thread; a request that is dropped is refused.
    ///
    /// ```
    /// use nono::{Approver, Options};
    ///
    /// let approver = Approver::new(|event, request| {
    ///     println!("{} wants to {}", event.process.executable.display(), event.operation.as_str());
    ///     request.deny();
    /// });
    /// let options = Options { approver: Some(approver), ..Options::default() };
    /// # let _ = options;
    /// ```
    pub fn new(ask: impl Fn(Event, Request) + Send + Sync + 'static) -> Self {
        Approver(Arc::new(ask))
    }

    pub(crate) fn ask(&self, event: Event, request: Request) {
        match request.is_one_too_many() {
            true => drop(request),
            false => (self.0)(event, request),
        }
    }
}

impl std::fmt::Debug for Approver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Approver")
    }
}

/// What happens when a request is answered.
type Answer = Box<dyn FnOnce(bool) + Send>;

/// An attempt that waits for an answer.
pub struct Request {
    answer: Option<Answer>,
    kept: Option<(Remembered, Grant)>,
}

/// A path or address, and the right to it.
type Grant = (Target, Right);

/// Grants that were given for as long as the sandbox stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remembered {
    grants: Arc<Mutex<HashSet<Grant>>>,
    /// Requests that have no answer yet.
    waiting: Arc<()>,
}

/// The most requests of a sandbox that wait for an answer. Each holds descriptors of the owner, and a program
/// can have thousands of threads.
const MOST_WAITING: usize = 128;

impl Remembered {
    pub(crate) fn holds(&self, target: &Target, operation: Operation) -> bool {
        self.grants().contains(&grant(target, operation))
    }

    fn grants(&self) -> MutexGuard<'_, HashSet<Grant>> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// However a path was asked for, it is the path that the kernel gives it.
fn grant(target: &Target, operation: Operation) -> Grant {
    let target = match target {
        Target::Path { path, .. } => {
            Target::Path { path: path.clone(), asked: PathBuf::new(), to: None }
        }
        other => other.clone(),
    };
    (target, operation.right())
}

impl Request {
    pub(crate) fn new(
        event: &Event,
        remembered: Remembered,
        answer: impl FnOnce(bool) + Send + 'static,
    ) -> Self {
        let kept = Some((remembered, grant(&event.target, event.operation)));
        Request { answer: Some(Box::new(answer)), kept }
    }

    fn is_one_too_many(&self) -> bool {
        let remembered = self.kept.as_ref().map(|(remembered, _)| remembered);
        // One is the supervisor's.
        remembered.is_some_and(|all| Arc::strong_count(&all.waiting) > MOST_WAITING + 1)
    }

    /// Lets the attempt pass, this time.
    pub fn allow(mut self) {
        self.settle(true);
    }

    /// Lets it pass, and the same attempt from now on.
    pub fn allow_always(mut self) {
        if let Some((remembered, grant)) = self.kept.take() {
            remembered.grants().insert(grant);
        }
        self.settle(true);
    }

    /// Refuses it, as if nobody had been asked.
    pub fn deny(mut self) {
        self.settle(false);
    }

    fn settle(&mut self, allowed: bool) {
        let Some(answer) = self.answer.take() else { return };
        // Carrying an attempt out may take a while, which is not the answerer's.
        let thread = std::thread::Builder::new().name("nono-approval".into());
        let started: io::Result<_> = thread.spawn(move || answer(allowed));
        drop(started); // without a thread the answer is dropped, and the attempt stays parked
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.settle(false);
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Request")
    }
}
