//! A setting's default and range, and the units that they are written in.

use std::ops::RangeInclusive;
use std::time::Duration;

pub(super) const MINUTE: u64 = 60;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

pub(super) struct Limits<T> {
    pub(super) default: T,
    pub(super) range: RangeInclusive<T>,
}

impl<T> Limits<T> {
    pub(super) const fn new(default: T, least: T, most: T) -> Self {
        Self {
            default,
            range: least..=most,
        }
    }
}

/// Limits of a duration, in seconds.
pub(super) const fn seconds(default: u64, least: u64, most: u64) -> Limits<Duration> {
    Limits::new(
        Duration::from_secs(default),
        Duration::from_secs(least),
        Duration::from_secs(most),
    )
}
