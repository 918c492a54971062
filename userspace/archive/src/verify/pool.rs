//! Reads the files of many steps on several threads, and gives what they hold in order, without more than a
//! bounded number of rows waiting.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;

/// Rows read ahead at most, of a leaf and a number each: 8 Mi × 40 B = 320 MiB. A larger file is read alone.
const ROWS_AHEAD_MAX: u64 = 8 * 1024 * 1024;

/// A gate that lets as many rows through as there is room for.
#[derive(Default)]
struct Gate {
    state: Mutex<(usize, u64)>,
    room: Condvar,
}

impl Gate {
    /// The next job, once there is room for its rows; `None` where there are no more.
    fn enter(&self, rows: &[u64]) -> Option<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (next, ahead) = *state;
            let own = *rows.get(next)?;
            if ahead == 0 || ahead.saturating_add(own) <= ROWS_AHEAD_MAX {
                *state = (next + 1, ahead.saturating_add(own));
                return Some(next);
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn leave(&self, rows: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = state.1.saturating_sub(rows);
        self.room.notify_all();
    }
}

/// Does `work` on each of as many jobs as there are numbers of `rows`, on `threads` threads, and calls `take`
/// with each result in order.
pub(super) fn in_order<T: Send>(
    rows: &[u64],
    threads: usize,
    work: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(usize, T),
) {
    let gate = Gate::default();
    let (send, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, rows.len().max(1)) {
            let (send, gate, work) = (send.clone(), &gate, &work);
            scope.spawn(move || {
                while let Some(job) = gate.enter(rows) {
                    // Whoever takes the results outlives this scope.
                    drop(send.send((job, work(job))));
                }
            });
        }
        drop(send);
        let (mut early, mut next) = (BTreeMap::new(), 0);
        for (job, result) in results {
            early.insert(job, result);
            while let Some(result) = early.remove(&next) {
                take(next, result);
                gate.leave(rows.get(next).copied().unwrap_or(0));
                next += 1;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_a_file_beyond_the_bound_comes_alone() {
        let rows: Vec<u64> =
            (0..200).map(|n| if n % 7 == 0 { ROWS_AHEAD_MAX * 2 } else { 1_000_000 }).collect();
        for threads in [1, 4] {
            let mut seen = Vec::new();
            in_order(&rows, threads, |job| job * 2, |job, result| seen.push((job, result)));
            let due: Vec<_> = (0..200).map(|job| (job, job * 2)).collect();
            assert_eq!(seen, due);
        }
    }
}
