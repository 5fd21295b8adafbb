//! The bound on what was received and is neither acked nor returned.
//!
//! Pub/Sub's flow control asks the server to keep to it; this makes sure, as an emulator doesn't.
//! When it is reached, nothing more is taken from the streams.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config;

/// Permits for messages and their bytes, shared by all streams.
#[derive(Clone, Debug)]
pub(super) struct FlowControl {
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_bytes: u32,
}

/// A message's share of the bounds, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _message: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl FlowControl {
    pub(super) fn new(settings: &config::Pubsub) -> Self {
        // Semaphores count to 2^32 - 1 at once; the largest setting is one more.
        let max_bytes = u32::try_from(settings.max_outstanding_bytes).unwrap_or(u32::MAX);
        let semaphore = |size: u32| Arc::new(Semaphore::new(size as usize));
        let messages = semaphore(settings.max_outstanding_messages);
        Self {
            messages,
            bytes: semaphore(max_bytes),
            max_bytes,
        }
    }

    /// Waits until a message of that size is within the bounds. One that is larger than all of them
    /// waits until no other is outstanding.
    /// `None` is never returned, as nobody closes the semaphores.
    pub(super) async fn enter(&self, bytes: usize) -> Option<Permit> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.max_bytes);
        let message = Arc::clone(&self.messages).acquire_owned().await.ok()?;
        let bytes = Arc::clone(&self.bytes)
            .acquire_many_owned(bytes)
            .await
            .ok()?;
        Some(Permit {
            _message: message,
            _bytes: bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_check::is_ready;

    use super::*;

    mod futures_check {
        use std::pin::pin;
        use std::task::{Context, Waker};

        pub(super) fn is_ready<T>(future: impl Future<Output = T>) -> Option<T> {
            match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
                std::task::Poll::Ready(value) => Some(value),
                std::task::Poll::Pending => None,
            }
        }
    }

    fn limit(messages: usize, bytes: u32) -> FlowControl {
        let semaphore = |size| Arc::new(Semaphore::new(size));
        FlowControl {
            messages: semaphore(messages),
            bytes: semaphore(bytes as usize),
            max_bytes: bytes,
        }
    }

    #[test]
    fn both_bounds_hold_and_permits_come_back() {
        let limit = limit(2, 10);
        let first = is_ready(limit.enter(4)).flatten().unwrap();
        assert!(is_ready(limit.enter(7)).is_none(), "too many bytes");
        let second = is_ready(limit.enter(6)).flatten().unwrap();
        drop(first);
        let third = is_ready(limit.enter(0)).flatten().unwrap();
        assert!(is_ready(limit.enter(0)).is_none(), "too many messages");
        drop((second, third));
        assert!(
            is_ready(limit.enter(1_000)).flatten().is_some(),
            "larger than everything"
        );
    }
}
