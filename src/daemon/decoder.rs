//! Decodes deliveries on a thread of its own: it needs nothing of the pipeline, so that some are
//! decoded while others are committed.
//!
//! It never acks. What it holds when nobody takes it any more is dropped, and so given back.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::event::{Decoded, RawMessage};
use crate::pipeline::{MAX_BATCH, Pipeline};
use crate::platforms::DecodeSettings;
use crate::sources::Delivery;

/// A delivery, and what its message means. The delivery keeps the message too: should the store
/// fail, it is decoded again.
#[derive(Debug)]
pub(super) struct DecodedDelivery {
    pub(super) delivery: Delivery,
    pub(super) raw: Arc<RawMessage>,
    pub(super) decoded: Decoded,
}

impl DecodedDelivery {
    pub(super) fn new(delivery: Delivery, settings: &DecodeSettings) -> Self {
        let (raw, decoded) = Pipeline::decode(settings, delivery.incoming.clone());
        Self {
            delivery,
            raw,
            decoded,
        }
    }
}

/// Decodes until the source has ended, or nobody takes what is decoded.
pub(super) fn run(
    settings: &DecodeSettings,
    mut received: mpsc::Receiver<Delivery>,
    decoded: &mpsc::Sender<DecodedDelivery>,
) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while received.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
        for delivery in batch.drain(..) {
            if decoded
                .blocking_send(DecodedDelivery::new(delivery, settings))
                .is_err()
            {
                return;
            }
        }
    }
}
