//! The memory in which records lie between their file and the cipher, shared by all connections
//! with TLS.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// As much as a connection takes at once while nothing waits in it.
pub(crate) const BUFFER_BYTES: usize = 64 << 10;
/// A buffer is held while its bytes are read and encrypted, never while a client is waited for: it
/// takes more threads than there are to wait for one.
const BUFFERS: usize = 8;

/// At most [`BUFFERS`] of [`BUFFER_BYTES`], made when they are first needed.
#[derive(Debug)]
pub(crate) struct Buffers {
    permits: Semaphore,
    free: Mutex<Vec<Box<[u8]>>>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { permits: Semaphore::new(BUFFERS), free: Mutex::default() }
    }
}

impl Buffers {
    /// A buffer with whatever was left in it; waits until one is free.
    pub(crate) async fn take(&self) -> Option<Buffer<'_>> {
        // None is never: the semaphore is not closed.
        let permit = self.permits.acquire().await.ok()?;
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = free.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        Some(Buffer { bytes, home: self, _permit: permit })
    }
}

/// A buffer on loan; it goes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Buffer<'a> {
    bytes: Box<[u8]>,
    home: &'a Buffers,
    /// Given back after the bytes.
    _permit: SemaphorePermit<'a>,
}

impl Deref for Buffer<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.home.free.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::{BUFFERS, Buffers};

    #[tokio::test]
    async fn no_more_buffers_are_made_than_there_may_be_and_each_is_used_again() {
        let buffers = Buffers::default();
        let mut held = Vec::new();
        for _ in 0..BUFFERS {
            held.push(buffers.take().await.unwrap());
        }
        let mut next = pin!(buffers.take());
        let mut context = Context::from_waker(Waker::noop());
        assert!(next.as_mut().poll(&mut context).is_pending());
        let mut last = held.pop().unwrap();
        last[0] = 7;
        drop(last);
        let Poll::Ready(again) = next.as_mut().poll(&mut context) else { panic!("none came back") };
        assert_eq!(again.unwrap()[0], 7);
        drop(held);
        assert_eq!(buffers.free.lock().unwrap().len(), BUFFERS);
    }
}
