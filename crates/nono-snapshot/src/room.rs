//! Room on the stack: how deep a tree is, is up to the agent, and a thread of Node's pool, or of a test, has little.

use std::path::Path;
use std::thread::{Builder, scope};

use crate::error::{Context, Result};

/// For the 4096 levels that a walk lists at most, in a build without optimisations. Only what is used is
/// ever given to the thread.
const STACK: usize = 64 << 20;

/// Runs what compares or merges two trees level by level.
pub(crate) fn with_room<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    scope(|scope| {
        let thread = Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.context("start a thread in", Path::new("/proc/self/task"))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
