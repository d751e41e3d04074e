//! Threads of the owner on which calls wait that may take long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most threads that sandboxes can occupy in their owner.
const ALL: usize = 2048;
/// How many they do.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// The seats of one sandbox; clones share them. It has at most half of those that others leave, so that there
/// are always some for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats(Arc<AtomicUsize>);

/// One that is taken, until dropped.
#[derive(Debug)]
pub(super) struct Seat(Seats);

impl Seats {
    /// `None`: there is none left for this sandbox.
    pub(super) fn take_one(&self) -> Option<Seat> {
        let own = self.0.fetch_add(1, Ordering::Relaxed);
        let all = TAKEN.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(self.clone());
        let left_by_others = ALL.saturating_sub(all.saturating_sub(own));
        (own < left_by_others / 2).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
        TAKEN.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sandbox_takes_all() {
        let sandboxes: [Seats; 3] = Default::default();
        let taken = sandboxes.each_ref().map(|seats| {
            let taken: Vec<Seat> = std::iter::from_fn(|| seats.take_one()).take(ALL).collect();
            assert!(seats.take_one().is_none());
            taken
        });
        assert_eq!(taken.each_ref().map(Vec::len), [ALL / 2, ALL / 4, ALL / 8]);
        drop(taken);
        assert!(sandboxes[0].take_one().is_some());
    }
}
