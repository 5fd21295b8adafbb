//! Notifications as their last revision has them, page by page.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::error::QueryError;
use super::page::{PAGE_BYTES_MAX, Page, PageSize};
use crate::engine::notifications::Notification;
use crate::event::{ClockTime, NotificationId, ResourceName, Timestamp};
use crate::record;
use crate::store::{Snapshot, StoreError};

/// Rows that are looked at for one page, most of which a filter may pass over: some 10 ms.
const ROWS_MAX: usize = 2000;

/// Rows that are read at once.
const CHUNK: usize = 256;

/// Which notifications, and where the page begins.
#[derive(Clone, Debug)]
pub struct NotificationFilter {
    pub state: Option<NotificationState>,
    /// Only those of this device.
    pub resource: Option<ResourceName>,
    /// Only those that have this kind among theirs.
    pub kind: Option<String>,
    pub before: Option<Cursor>,
    pub size: PageSize,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::AsRefStr, strum::EnumString, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum NotificationState {
    Open,
    Closed,
}

impl NotificationState {
    pub fn of(notification: &Notification) -> Self {
        if notification.is_closed() {
            Self::Closed
        } else {
            Self::Open
        }
    }
}

/// A place in the list: by when a notification last got a message, then by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    touched: ClockTime,
    id: NotificationId,
}

impl Cursor {
    const END: Self = Self {
        touched: ClockTime(i64::MAX),
        id: NotificationId([0xff; 16]),
    };
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.touched.0, self.id)
    }
}

impl FromStr for Cursor {
    type Err = QueryError;

    /// Reads what `next` said, or a time.
    fn from_str(text: &str) -> Result<Self, QueryError> {
        if let Some(time) = Timestamp::parse(text) {
            let touched = ClockTime::from_utc(time.at());
            let id = NotificationId([0; 16]);
            return Ok(Self { touched, id });
        }
        let cursor = text.split_once('.').and_then(|(touched, id)| {
            Some(Self {
                touched: ClockTime(touched.parse().ok()?),
                id: parse_id(id)?,
            })
        });
        let expected = "what `next` of a page says, or a time such as 2025-06-02T17:21:44Z";
        cursor.ok_or_else(|| QueryError::bad("before", text, expected))
    }
}

/// The id of that text, 32 hex digits.
pub(super) fn parse_id(text: &str) -> Option<NotificationId> {
    let mut id = [0; 16];
    hex::decode_to_slice(text, &mut id).ok()?;
    Some(NotificationId(id))
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A notification; it serialises to the `data` of its last record.
#[derive(Debug)]
pub struct NotificationItem {
    pub id: NotificationId,
    pub notification: Notification,
    data: Box<RawValue>,
}

impl NotificationItem {
    pub(super) fn new(id: NotificationId, notification: Notification) -> Self {
        let data = String::from(record::notification_data(id, &notification));
        let data = RawValue::from_string(data).unwrap_or_default();
        Self {
            id,
            notification,
            data,
        }
    }
}

impl Serialize for NotificationItem {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.data.serialize(to)
    }
}

/// A page of notifications, the one that got a message last first.
pub fn notifications(
    snapshot: &Snapshot<'_>,
    filter: &NotificationFilter,
) -> Result<Page<NotificationItem, Cursor>, StoreError> {
    let mut cursor = filter.before.unwrap_or(Cursor::END);
    let mut items: Vec<NotificationItem> = Vec::new();
    let mut bytes = 0;
    let mut looked_at = 0;
    loop {
        let (chunk, is_last) = chunk(snapshot, filter.state, cursor)?;
        for (id, notification) in chunk {
            let is_full = items.len() == filter.size.get() || bytes > PAGE_BYTES_MAX;
            if is_full || looked_at == ROWS_MAX {
                let next = Some(cursor);
                return Ok(Page { items, next });
            }
            looked_at += 1;
            cursor = Cursor {
                touched: notification.touched,
                id,
            };
            if matches(filter, &notification) {
                let item = NotificationItem::new(id, notification);
                bytes += item.data.get().len();
                items.push(item);
            }
        }
        if is_last {
            return Ok(Page { items, next: None });
        }
    }
}

type NotificationRow = (NotificationId, Notification);

/// The next rows, and whether there are no more.
fn chunk(
    snapshot: &Snapshot<'_>,
    state: Option<NotificationState>,
    before: Cursor,
) -> Result<(Vec<NotificationRow>, bool), StoreError> {
    let mut rows = Vec::new();
    for of in [NotificationState::Open, NotificationState::Closed] {
        if state.is_none_or(|state| state == of) {
            let is_open = of == NotificationState::Open;
            let before = (before.touched, before.id);
            rows.extend(snapshot.notifications_before(is_open, before, CHUNK)?);
        }
    }
    let is_last = rows.len() < CHUNK;
    rows.sort_by_key(|(id, row)| std::cmp::Reverse((row.touched, *id)));
    // Of two lists, each is complete only for as many rows as were asked for.
    rows.truncate(CHUNK);
    Ok((rows, is_last))
}

fn matches(filter: &NotificationFilter, notification: &Notification) -> bool {
    let resource = filter.resource.as_ref();
    let kind = filter.kind.as_ref();
    // Before its first revision, nobody has seen it.
    notification.revision > 0
        && resource.is_none_or(|resource| notification.resource == *resource)
        && kind.is_none_or(|kind| notification.kinds.contains(kind))
}
