//! Which notifications a message belongs to, and what it brings to each.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::event::{Activity, Clip, Event, NotificationId, Platform, ResourceName, SessionKey};

/// What one message brings to one notification.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Contribution<'a> {
    pub(in crate::engine) id: NotificationId,
    pub(in crate::engine) resource: &'a ResourceName,
    pub(in crate::engine) is_thread: bool,
    pub(in crate::engine) activities: Vec<&'a Activity>,
    /// Of a threaded message only: an unthreaded clip is a [`SessionClip`].
    pub(in crate::engine) clips: &'a [(Option<String>, Option<String>)],
}

impl<'a> Contribution<'a> {
    /// True if the message has an event entry for this notification.
    pub(super) fn has_entry(&self) -> bool {
        !self.activities.is_empty() || !self.clips.is_empty()
    }

    /// The sessions that the message names for this notification.
    pub(in crate::engine) fn sessions(&self) -> impl Iterator<Item = &'a str> {
        let of_clips = self
            .clips
            .iter()
            .filter_map(|(session, _)| session.as_deref());
        let of_activities: Vec<&str> = self
            .activities
            .iter()
            .filter_map(|activity| activity.session.as_deref())
            .collect();
        of_activities.into_iter().chain(of_clips)
    }
}

/// A clip of an unthreaded message: it joins every notification of its session.
#[derive(Clone, Debug)]
pub(in crate::engine) struct SessionClip<'a> {
    pub(in crate::engine) session: SessionKey,
    pub(in crate::engine) session_id: &'a str,
    pub(in crate::engine) url: &'a str,
}

impl SessionClip<'_> {
    /// The clip, as notifications show it.
    pub(in crate::engine) fn clip(&self) -> Clip {
        Clip {
            session_id: Some(self.session_id.into()),
            preview_url: self.url.into(),
        }
    }
}

/// Which notifications a message belongs to (REFERENCE.md, section 3, "Grouping").
pub(in crate::engine) fn contributions(event: &Event) -> Vec<Contribution<'_>> {
    let Some(resource) = &event.resource else {
        return Vec::new();
    };
    if let Some(thread) = &event.thread {
        return vec![Contribution {
            id: NotificationId(hash(event.platform, resource, "thread", &thread.id)),
            resource,
            is_thread: true,
            activities: event.activities.iter().collect(),
            clips: &event.clips,
        }];
    }
    let mut sessions: BTreeMap<Option<&str>, Vec<&Activity>> = BTreeMap::new();
    for activity in &event.activities {
        sessions
            .entry(activity.session.as_deref())
            .or_default()
            .push(activity);
    }
    let contribution = |(session, activities): (Option<&str>, _)| Contribution {
        id: NotificationId(match session {
            Some(session) => session_key(event.platform, resource, session).0,
            None => hash(event.platform, resource, "event", &event.key.to_string()),
        }),
        resource,
        is_thread: false,
        activities,
        clips: &[],
    };
    sessions.into_iter().map(contribution).collect()
}

/// The clips of an unthreaded message that can join anything.
pub(in crate::engine) fn session_clips(event: &Event) -> Vec<SessionClip<'_>> {
    let (Some(resource), None) = (&event.resource, &event.thread) else {
        return Vec::new();
    };
    let mut session_clips = Vec::new();
    for (session, url) in &event.clips {
        if let (Some(session_id), Some(url)) = (session, url) {
            let session = session_key(event.platform, resource, session_id);
            session_clips.push(SessionClip {
                session,
                session_id,
                url,
            });
        }
    }
    session_clips
}

/// The key of a session of a resource.
pub(in crate::engine) fn session_key(
    platform: Platform,
    resource: &ResourceName,
    session: &str,
) -> SessionKey {
    SessionKey(hash(platform, resource, "session", session))
}

pub(super) fn hash(platform: Platform, resource: &ResourceName, kind: &str, id: &str) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for text in [platform.as_str(), resource.as_str(), kind, id] {
        // Lengths keep apart what could run together.
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize()[..16]);
    key
}
