//! A few threads for work that waits for the network and the disk more than for a processor.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// How many blobs are on their way at once.
const THREADS: usize = 6;

/// Does `work` for every item, some at once; the first error, after which nothing new is begun.
pub(crate) fn for_each<T: Sync, E: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let work_off = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(item) {
                next.store(items.len(), Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..THREADS.min(items.len()) {
            scope.spawn(work_off);
        }
        work_off();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_done_once_or_an_error_is_told() {
        let items: Vec<usize> = (0..1000).collect();
        let sum = AtomicUsize::new(0);
        let done: Result<(), ()> = for_each(&items, |item| {
            sum.fetch_add(*item, Ordering::Relaxed);
            Ok(())
        });
        assert_eq!((done, sum.into_inner()), (Ok(()), 499_500));
        assert_eq!(for_each(&items, |item| if *item == 7 { Err(7) } else { Ok(()) }), Err(7));
        assert_eq!(for_each(&[] as &[u8], |_| Err(())), Ok(()));
    }
}
