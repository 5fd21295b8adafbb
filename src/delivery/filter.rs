//! Which records a sink wants.

use std::collections::BTreeSet;

use serde::Serialize;

use super::row::Facts;
use crate::record::RecordKind;

/// What a setting selects resources by: a name, or `prefix*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum Pattern {
    Name(Box<str>),
    Prefix(Box<str>),
}

/// Why a text is no [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("an empty text selects nothing; write a name, or `*` for all")]
    Empty,
    #[error("`*` stands in the middle of \"{0}\"; it can only be the last character")]
    Star(String),
}

impl std::str::FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let prefix = text.strip_suffix('*');
        let name = prefix.unwrap_or(text);
        if name.contains('*') {
            return Err(PatternError::Star(text.to_owned()));
        }
        match prefix {
            Some(prefix) => Ok(Self::Prefix(prefix.into())),
            None if text.is_empty() => Err(PatternError::Empty),
            None => Ok(Self::Name(text.into())),
        }
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        match pattern {
            Pattern::Name(name) => name.into(),
            Pattern::Prefix(prefix) => format!("{prefix}*"),
        }
    }
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(expected) => name == &**expected,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
        }
    }
}

/// The wishes of one sink; an empty list asks for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub records: BTreeSet<RecordKind>,
    pub resources: Vec<Pattern>,
    /// Records that don't say their structure, as events of devices, don't match.
    pub structures: Vec<Pattern>,
    /// Kinds of notifications: one of them is enough. Other records pass.
    pub kinds: BTreeSet<String>,
    /// Of notifications, only the revisions that ring. Other records pass.
    pub alerts_only: bool,
}

impl Filter {
    /// Whether records of this kind are wanted at all.
    pub fn accepts_kind(&self, kind: RecordKind) -> bool {
        self.records.is_empty() || self.records.contains(&kind)
    }

    /// Whether [`Filter::accepts`] looks at more than the kind of the record.
    pub fn looks_inside(&self) -> bool {
        !self.resources.is_empty()
            || !self.structures.is_empty()
            || !self.kinds.is_empty()
            || self.alerts_only
    }

    /// Whether a record with these facts is wanted, if its kind is.
    pub fn accepts(&self, facts: &Facts<'_>) -> bool {
        let rings = |facts: &Facts<'_>| facts.revision.is_none_or(|r| r.alert_until.is_some());
        any(&self.resources, |pattern| pattern.matches(&facts.resource))
            && any(&self.structures, |pattern| is_in(pattern, facts))
            && self.accepts_kinds(facts)
            && (!self.alerts_only || rings(facts))
    }

    fn accepts_kinds(&self, facts: &Facts<'_>) -> bool {
        if self.kinds.is_empty() || facts.revision.is_none() {
            return true;
        }
        let kinds = facts.kinds.map_or("[]", |kinds| kinds.get());
        // Our own lines hold a list of texts; another value is of no kind that anybody asked for.
        let kinds: Vec<String> = serde_json::from_str(kinds).unwrap_or_default();
        kinds.iter().any(|kind| self.kinds.contains(kind))
    }
}

fn any(patterns: &[Pattern], matches: impl Fn(&Pattern) -> bool) -> bool {
    patterns.is_empty() || patterns.iter().any(matches)
}

/// Whether the record is about the structure, about something in it, or about what just left it.
fn is_in(pattern: &Pattern, facts: &Facts<'_>) -> bool {
    let said = facts.structures.iter().flatten();
    let own = structure_of(&facts.resource);
    said.map(|name| &**name)
        .chain(own)
        .any(|name| pattern.matches(name))
}

/// The structure that is named by its own name or by that of a room in it.
fn structure_of(resource: &str) -> Option<&str> {
    let structure = resource.split("/rooms/").next()?;
    structure.contains("/structures/").then_some(structure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns<const N: usize>(texts: [&str; N]) -> Vec<Pattern> {
        texts.map(|text| text.parse().unwrap()).into()
    }

    fn line(kind: RecordKind, data: &str, subject: &str) -> (RecordKind, String) {
        let id = "03ef828a9d00ad9b0aa487fa8e179ad6";
        let head = match kind {
            RecordKind::Notification => format!(r#""notificationId":"{id}","revision":1,"#),
            RecordKind::Event => r#""orderingKey":"k","#.to_owned(),
            RecordKind::Relation => String::new(),
        };
        let line = format!(r#"{{"subject":"{subject}","data":{{{head}{data}}}}}"#);
        (kind, line)
    }

    /// Which of the records below pass.
    fn passed(filter: &Filter) -> Vec<&'static str> {
        use RecordKind::{Event, Notification, Relation};
        let device = "enterprises/p/devices/front";
        let home = "enterprises/p/structures/home";
        let in_home = format!(r#""structure":"{home}""#);
        let ringing = format!(
            r#"{in_home},"alert":true,"alertUntil":"2025-06-02T17:22:44Z","kinds":["chime","motion"]"#
        );
        let silent = r#""alert":false,"kinds":["motion"],"structure":null"#;
        let left = format!(r#""structure":null,"previous":{{"structure":"{home}"}}"#);
        let room = format!("{home}/rooms/hall");
        let records = [
            ("ringing", line(Notification, &ringing, device)),
            (
                "silent",
                line(Notification, silent, "enterprises/p/devices/back"),
            ),
            ("event", line(Event, r#""x":1"#, device)),
            ("room", line(Event, r#""x":1"#, &room)),
            ("left", line(Relation, &left, device)),
            (
                "other",
                line(Relation, r#""structure":"h""#, "enterprises/p/devices/back"),
            ),
        ];
        let wanted = records.iter().filter(|(_, (kind, line))| {
            filter.accepts_kind(*kind) && filter.accepts(&Facts::read(*kind, line).unwrap())
        });
        wanted.map(|(name, _)| *name).collect()
    }

    #[test]
    fn each_wish_selects_its_records() {
        let all = Filter::default();
        assert!(!all.looks_inside());
        assert_eq!(passed(&all).len(), 6);
        for (filter, expected) in [
            (
                Filter {
                    records: [RecordKind::Event].into(),
                    ..Filter::default()
                },
                &["event", "room"][..],
            ),
            (
                Filter {
                    resources: patterns(["enterprises/p/devices/front"]),
                    ..Filter::default()
                },
                &["ringing", "event", "left"],
            ),
            (
                Filter {
                    resources: patterns(["x", "enterprises/p/devices/f*"]),
                    ..Filter::default()
                },
                &["ringing", "event", "left"],
            ),
            (
                Filter {
                    structures: patterns(["enterprises/p/structures/home"]),
                    ..Filter::default()
                },
                &["ringing", "room", "left"],
            ),
            (
                Filter {
                    kinds: ["chime".to_owned()].into(),
                    ..Filter::default()
                },
                &["ringing", "event", "room", "left", "other"],
            ),
            (
                Filter {
                    records: [RecordKind::Notification].into(),
                    alerts_only: true,
                    ..Filter::default()
                },
                &["ringing"],
            ),
        ] {
            assert_eq!(passed(&filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn a_star_ends_a_pattern_or_is_a_fault() {
        assert_eq!("*".parse(), Ok(Pattern::Prefix("".into())));
        assert_eq!("".parse::<Pattern>(), Err(PatternError::Empty));
        for text in ["a*b", "*a", "a**"] {
            let error = PatternError::Star(text.to_owned());
            assert_eq!(text.parse::<Pattern>(), Err(error));
        }
    }
}
