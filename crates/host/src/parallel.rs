//! Parallel work on many items.

use std::num::NonZero;
use std::thread;

/// Fewer items than this are done before another thread has started.
const WORTH_A_THREAD: usize = 64;

/// More threads than this wait for each other in the kernel: they read the same few directories.
const MOST_THREADS: usize = 8;

/// Calls `work` for each of `items`; the results are in the order of the items.
pub fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = processors.min(MOST_THREADS).min(items.len() / WORTH_A_THREAD).max(1);
    if threads == 1 {
        return items.iter().map(work).collect();
    }
    let share = items.len().div_ceil(threads);
    let mut shares = items.chunks(share);
    let own = shares.next().unwrap_or_default();
    let work = &work;
    thread::scope(|scope| {
        let others: Vec<_> = shares
            .map(|share| scope.spawn(move || share.iter().map(work).collect::<Vec<R>>()))
            .collect();
        let mut done: Vec<R> = own.iter().map(work).collect();
        for other in others {
            match other.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_in_order() {
        for length in [0, 1, 63, 64, 128, 1000, 1001] {
            let items: Vec<usize> = (0..length).collect();
            let doubled: Vec<usize> = items.iter().map(|item| item * 2).collect();
            assert_eq!(map(&items, |item| item * 2), doubled);
        }
    }
}
