//! Wire to domain: what a platform sent becomes an event or a [`Reject`].
//!
//! Pure. Whatever a message can cause is a value; nothing here panics on input, and no wire type
//! leaves its platform's file.

mod fields;
mod json;
mod sdm;

use serde_json::Value;
use sha2::{Digest, Sha256};

pub use self::fields::DecodeSettings;
use self::fields::type_name;
pub use self::json::{MAX_BODY_BYTES, MAX_DEPTH};
use crate::event::{Decoded, DedupeKey, Event, Payload, Platform, RawMessage, Reason, Reject};

/// What a body says.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The hash of the canonical payload, or of the raw bytes of a body that can't be decoded.
    pub key: DedupeKey,
    /// The event and the parts of its payload that its record repeats, or why there is none.
    pub outcome: Result<(Event, Payload), Reject>,
}

/// Decodes one message.
pub fn decode(raw: &RawMessage, settings: &DecodeSettings) -> Parsed {
    let payload = match json::parse(&raw.body) {
        Ok(payload) => payload,
        Err(reject) => {
            return Parsed {
                key: hash(raw.platform, &raw.body),
                outcome: Err(reject),
            };
        }
    };
    let key = hash(raw.platform, &canonical(&payload, raw.body.len()));
    let outcome = match (raw.platform, payload) {
        (Platform::Sdm, Value::Object(body)) => sdm::decode(raw, key, body, settings),
        (_, other) => Err(Reject::new(
            Reason::WrongType,
            format!("the payload is {}, expected an object", type_name(&other)),
        )),
    };
    Parsed { key, outcome }
}

/// A message that its source already found to be unusable, keyed by its raw bytes.
pub fn rejected(raw: &RawMessage, reject: Reject) -> Decoded {
    Decoded {
        key: hash(raw.platform, &raw.body),
        outcome: Err(reject),
    }
}

/// Keys sorted, no white space: so rarely longer than the text it came from.
fn canonical(payload: &Value, length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length);
    // A value in memory can always be written to memory.
    drop(serde_json::to_writer(&mut text, payload));
    text
}

fn hash(platform: Platform, payload: &[u8]) -> DedupeKey {
    let digest = Sha256::new()
        .chain_update(platform.as_str())
        .chain_update(b"\n")
        .chain_update(payload)
        .finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    DedupeKey(key)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::engine::draft::{Draft, EventDraft};
    use crate::event::{PublishTime, ReceivedAt, Timestamp};
    use crate::record::{self, Record};

    fn raw(body: impl Into<Bytes>) -> RawMessage {
        let time = Timestamp::parse("2025-06-09T13:52:05Z").unwrap();
        RawMessage {
            platform: Platform::Sdm,
            message_id: "m1".into(),
            publish_time: PublishTime(time.clone()),
            received_at: ReceivedAt(time),
            body: body.into(),
            place: None,
        }
    }

    fn decoded(body: impl Into<Bytes>) -> Parsed {
        decode(&raw(body), &DecodeSettings::default())
    }

    fn reason(body: impl Into<Bytes>) -> Option<Reason> {
        decoded(body).outcome.err().map(|reject| reject.reason)
    }

    /// The record of an event.
    fn line((event, payload): (Event, Payload)) -> String {
        let rendered = record::render(&event, &payload, &event.ordering_key());
        let draft = EventDraft {
            rendered,
            late: false,
            flags: event.flags,
        };
        Record::new(Draft::Event(draft), 1).line
    }

    /// A payload that decodes, with something in its `resourceGroup`.
    fn payload(group: &str) -> String {
        let name = "enterprises/p/devices/d";
        format!(r#"{{"eventId":"e","resourceUpdate":{{"name":"{name}"}},"resourceGroup":{group}}}"#)
    }

    #[test]
    fn the_key_is_a_hash_of_platform_and_canonical_payload() {
        let body = r#" {"resourceUpdate": {"name": "n", "traits": {"b": 65.0, "a": "\u00fc"}}} "#;
        let canonical =
            "sdm\n{\"resourceUpdate\":{\"name\":\"n\",\"traits\":{\"a\":\"ü\",\"b\":65.0}}}";
        let expected = hex::encode(&Sha256::digest(canonical)[..16]);
        assert_eq!(decoded(body).key.to_string(), expected);
    }

    #[test]
    fn a_body_that_is_not_json_is_known_by_its_bytes() {
        let expected = hex::encode(&Sha256::digest("sdm\nhello")[..16]);
        assert_eq!(decoded("hello").key.to_string(), expected);
        assert_ne!(decoded("hello").key, decoded("hello ").key);
        let found_by_source = Reject::new(Reason::BadLine, "bad");
        assert_eq!(
            rejected(&raw("hello"), found_by_source).key,
            decoded("hello").key
        );
    }

    #[test]
    fn only_form_is_left_out_of_the_key() {
        let key = |body: &str| decoded(body.to_owned()).key;
        let one = key(r#"{"eventId":"e","relationUpdate":{"type":"CREATED","object":"o"}}"#);
        let respaced = "{ \"relationUpdate\":\n{\"object\":\"\\u006f\", \"type\":\"CREATED\"},\
                        \"eventId\":\"e\"}";
        assert_eq!(key(respaced), one);
        for other in [
            r#"{"eventId":"e","relationUpdate":{"type":"CREATED","object":"o"},"eventThreadState":null}"#,
            r#"{"eventId":"f","relationUpdate":{"type":"CREATED","object":"o"}}"#,
            r#"{"eventId":"e","relationUpdate":{"type":"CREATED","object":"o","subject":""}}"#,
        ] {
            assert_ne!(key(other), one, "{other}");
        }
        // Numbers are kept as they are written.
        assert_ne!(key(&payload("65")), key(&payload("65.0")));
    }

    #[test]
    fn the_size_of_a_body_is_bounded() {
        let frame = payload("\"\"").len();
        let filled = |len: usize| payload(&format!("\"{}\"", "x".repeat(len - frame)));
        assert_eq!(filled(MAX_BODY_BYTES).len(), MAX_BODY_BYTES);
        assert_eq!(reason(filled(MAX_BODY_BYTES)), None);
        assert_eq!(reason(filled(MAX_BODY_BYTES + 1)), Some(Reason::TooLarge));
        assert_eq!(reason(vec![b'['; 10 << 20]), Some(Reason::TooLarge));
    }

    #[test]
    fn the_depth_of_a_body_is_bounded() {
        let nested = |depth: usize| payload(&("[".repeat(depth - 1) + &"]".repeat(depth - 1)));
        assert_eq!(reason(nested(MAX_DEPTH)), None);
        assert_eq!(reason(nested(MAX_DEPTH + 1)), Some(Reason::TooDeep));
        assert_eq!(reason(vec![b'['; MAX_BODY_BYTES]), Some(Reason::TooDeep));
        // Brackets in a text are no depth.
        assert_eq!(reason(payload(&json!("[{".repeat(1000)).to_string())), None);
    }

    #[test]
    fn a_text_is_not_parsed_in_turn_whatever_its_key() {
        // Each level of such texts would start a parser anew, until the stack overflows.
        let open = "[".repeat(100);
        let close = "]".repeat(100);
        let mut body = open.clone() + &close;
        loop {
            let text = Value::from(body.as_str());
            let next = format!(r#"{open}{{"$serde_json::private::RawValue":{text}}}{close}"#);
            if next.len() > MAX_BODY_BYTES {
                break;
            }
            body = next;
        }
        assert_eq!(reason(body), Some(Reason::NotJson));
    }

    #[test]
    fn the_deepest_body_makes_a_record_that_can_be_read() {
        let depth = MAX_DEPTH - 1;
        let body = payload(&("[".repeat(depth) + &"]".repeat(depth)));
        serde_json::from_str::<Value>(&line(decoded(body).outcome.unwrap())).unwrap();
    }

    #[test]
    fn a_key_twice_in_one_object_is_refused_and_equal_keys_elsewhere_are_not() {
        for group in [
            r#"{"a":1,"a":1}"#,
            r#"[{"x":{"a":1,"b":2,"a":3}}]"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            assert_eq!(
                reason(payload(group)),
                Some(Reason::DuplicateKey),
                "{group}"
            );
        }
        for group in [
            r#"[{"a":1},{"a":1}]"#,
            r#"{"a":{"a":{"a":":"}}}"#,
            r#"{"\"a\":1,\"a":1}"#,
        ] {
            assert_eq!(reason(payload(group)), None, "{group}");
        }
    }

    #[test]
    fn a_payload_that_is_no_object_is_refused_by_name() {
        let reject = decoded("[1]").outcome.unwrap_err();
        assert_eq!(reject.detail, "the payload is an array, expected an object");
        assert_eq!(reason(&b"\xff\xfe{}"[..]), Some(Reason::NotUtf8));
        assert_eq!(reason("{}"), Some(Reason::NoUpdate));
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            ".{0,6}",
            Just("$serde_json::private::Number".to_owned()),
            Just("$serde_json::private::RawValue".to_owned()),
            Just("2025-06-09T13:52:03Z".to_owned()),
            Just("enterprises/p/structures/s/rooms/r".to_owned()),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name(), inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// Names that the decoder looks for, and others.
    fn name() -> impl Strategy<Value = String> {
        let known: Vec<_> = include_str!("../fixtures/names.txt").lines().collect();
        let known = prop::sample::select(known);
        prop_oneof![6 => known.prop_map(str::to_owned), 1 => ".{0,4}"]
    }

    /// A sound body with one value replaced.
    fn mutated() -> impl Strategy<Value = Value> {
        let body = json!({
            "eventId": "e", "timestamp": "2025-06-09T13:52:03Z", "userId": "u",
            "eventThreadId": "t", "eventThreadState": "STARTED",
            "resourceUpdate": {
                "name": "enterprises/p/devices/d",
                "events": {
                    "sdm.devices.events.CameraMotion.Motion": {"eventSessionId": "s", "zones": []},
                    "sdm.devices.events.CameraClipPreview.ClipPreview": {"previewUrl": "u"},
                },
                "traits": {"sdm.devices.traits.Info": {"customName": "Hall"}},
            },
            "relationUpdate": {"type": "CREATED", "subject": "", "object": "d"},
        });
        let mut paths = Vec::new();
        paths_of(&body, String::new(), &mut paths);
        (prop::sample::select(paths), json_value()).prop_map(move |(path, value)| {
            let mut body = body.clone();
            *body.pointer_mut(&path).unwrap() = value;
            body
        })
    }

    fn paths_of(value: &Value, path: String, paths: &mut Vec<String>) {
        for (name, inner) in value.as_object().into_iter().flatten() {
            paths_of(inner, format!("{path}/{name}"), paths);
        }
        paths.push(path);
    }

    /// Decodes twice; what comes out is the same, and its record can be read.
    fn survive(body: &[u8]) {
        let [one, two] = [(); 2].map(|()| decoded(body.to_vec()));
        assert_eq!(one.key, two.key);
        match (one.outcome, two.outcome) {
            (Ok(one), Ok(two)) => {
                let [one, two] = [one, two].map(line);
                assert_eq!(one, two);
                serde_json::from_str::<Value>(&one).unwrap();
            }
            (Err(one), Err(two)) => assert_eq!(one, two),
            (one, two) => panic!("{one:?} and {two:?}"),
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_an_outcome(body in prop::collection::vec(any::<u8>(), 0..64)) {
            survive(&body);
        }

        #[test]
        fn any_json_decodes_to_an_outcome(value in json_value()) {
            survive(value.to_string().as_bytes());
        }

        #[test]
        fn a_sound_body_with_one_value_replaced_decodes_to_an_outcome(value in mutated()) {
            survive(value.to_string().as_bytes());
        }

        #[test]
        fn a_sound_body_that_is_cut_or_damaged_decodes_to_an_outcome(
            value in mutated(), at in any::<prop::sample::Index>(), byte in any::<Option<u8>>()
        ) {
            let mut body = value.to_string().into_bytes();
            let at = at.index(body.len());
            match byte {
                Some(byte) => body[at] = byte,
                None => body.truncate(at),
            }
            survive(&body);
        }
    }
}
