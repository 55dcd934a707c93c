//! Parts of one task that wake each other, without a detour through the scheduler, which would
//! hand the task to another thread each time.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Wake, Waker};

/// So often a future is polled again before others have their turn.
const MOST_TURNS: usize = 16;

const RESTING: u8 = 0;
const POLLED: u8 = 1;
/// It was woken while it was polled.
const WOKEN: u8 = 2;

/// What the future is given as its waker.
#[derive(Default)]
struct Bell {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

impl Bell {
    /// From now on a wake while the future rests goes to `task`.
    fn belongs_to(&self, task: &Waker) {
        let mut known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *known {
            Some(known) => known.clone_from(task),
            None => *known = Some(task.clone()),
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let (all, relaxed) = (Ordering::SeqCst, Ordering::SeqCst);
        if self.state.compare_exchange(POLLED, WOKEN, all, relaxed) == Err(RESTING) {
            let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
            task.iter().for_each(Waker::wake_by_ref);
        }
    }
}

/// Polls the future again at once for as long as it wakes itself.
pub(crate) async fn settle<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    poll_fn(|context| {
        bell.belongs_to(context.waker());
        for _ in 0..MOST_TURNS {
            bell.state.store(POLLED, Ordering::SeqCst);
            let polled = future.as_mut().poll(&mut std::task::Context::from_waker(&waker));
            if polled.is_ready() {
                return polled;
            }
            let rests =
                bell.state.compare_exchange(POLLED, RESTING, Ordering::SeqCst, Ordering::SeqCst);
            if rests.is_ok() {
                return Poll::Pending;
            }
        }
        bell.state.store(RESTING, Ordering::SeqCst);
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    use tokio::sync::mpsc;

    use super::{MOST_TURNS, settle};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_is_passed_on_within_a_task_does_not_wake_it() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let (first_in, mut first) = mpsc::channel::<u32>(1);
        let (second_in, mut second) = mpsc::channel::<u32>(1);
        let both = async move {
            let last = async move { second.recv().await };
            let middle = async move { second_in.send(first.recv().await.unwrap() + 1).await };
            tokio::join!(last, middle).0
        };
        let mut both = Box::pin(settle(both));
        let mut context = Context::from_waker(&waker);
        assert_eq!(both.as_mut().poll(&mut context), Poll::Pending);
        first_in.try_send(1).unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "a wake from outside reaches the task");
        assert_eq!(both.as_mut().poll(&mut context), Poll::Ready(Some(2)));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn one_that_never_rests_lets_others_have_their_turn() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut turns = 0;
        let restless = std::future::poll_fn(|context| {
            turns += 1;
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let mut restless = Box::pin(settle(restless));
        assert_eq!(restless.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
        drop(restless);
        assert_eq!((turns, count.0.load(Ordering::SeqCst)), (MOST_TURNS, 1));
    }
}
