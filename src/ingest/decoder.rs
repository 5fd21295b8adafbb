//! Decodes deliveries on a thread of its own: it needs nothing of the pipeline, so that some are
//! decoded while others are committed.
//!
//! It never acks. What it holds when nobody takes it any more is dropped, and so returned.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::event::{Decoded, RawMessage};
use crate::pipeline::{MAX_BATCH, Pipeline};
use crate::platforms::DecodeSettings;
use crate::sources::Delivery;

/// A delivery, and what its message means. The delivery keeps the message too: should the store
/// fail, it is decoded again.
#[derive(Debug)]
pub struct DecodedDelivery {
    pub delivery: Delivery,
    pub raw: Arc<RawMessage>,
    pub decoded: Decoded,
}

impl DecodedDelivery {
    pub(super) fn new(delivery: Delivery, settings: &DecodeSettings) -> Self {
        let (raw, decoded) = Pipeline::decode(settings, delivery.message.clone().into());
        Self {
            delivery,
            raw,
            decoded,
        }
    }
}

/// Decodes until the source has ended, or nobody takes what is decoded.
pub fn decode(
    settings: &DecodeSettings,
    mut received: mpsc::Receiver<Delivery>,
    decoded: &mpsc::Sender<DecodedDelivery>,
) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while received.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
        for delivery in batch.drain(..) {
            let delivery = DecodedDelivery::new(delivery, settings);
            if decoded.blocking_send(delivery).is_err() {
                return;
            }
        }
    }
}
