//! What the server does wrong, on demand. Data only: the other modules act on it.

use serde_json::{Value, json};
use tonic::Status;

use crate::auth::PublicKey;

/// Everything about the server that a test can script. The default is a healthy server that knows
/// one subscription under any name.
#[derive(Debug)]
pub struct Faults {
    /// HTTP status that every request gets instead of an answer, without a gRPC status: what a
    /// proxy says when its backend is gone.
    pub http: Rule<u16>,
    /// Whose tokens are accepted, by gRPC and HTTP+JSON alike.
    pub auth: Auth,
    /// The only subscription that exists, `projects/…/subscriptions/…`; any other one is
    /// NOT_FOUND. `None`: every name means the one subscription.
    pub subscription_name: Option<String>,
    /// How a stream ends as soon as it is opened.
    pub open: Rule<End>,
    /// Nothing is delivered, on new streams and on open ones. Clear it, and delivery goes on.
    pub silent: bool,
    /// A stream's response headers are sent when it opens. Google and its emulator send them with
    /// the first message, which is the default.
    pub early_headers: bool,
    /// Messages are delivered no matter how many the client said it would hold.
    pub ignore_flow_control: bool,
    /// Messages of a stream that ended stay leased until their deadline, instead of becoming
    /// available at once.
    pub hold_leases: bool,
    /// What happens to Acknowledge requests.
    pub acknowledge: Rule<Answer>,
    /// What happens to ModifyAckDeadline requests; nacks are among them.
    pub modify_ack_deadline: Rule<Answer>,
    /// What GET of the subscription or of its topic is answered.
    pub admin: Rule<Admin>,
    /// GET of the subscription answers this; `name` is filled in. `topic` names its topic.
    /// `enableExactlyOnceDelivery` is also what streams announce, though they don't keep to it.
    pub subscription: Value,
    /// GET of the topic answers this; `name` is filled in.
    pub topic: Value,
    /// What GET of the topic's policy is answered.
    pub get_policy: Rule<Admin>,
    /// The bindings of the topic's policy.
    pub policy_bindings: Value,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            http: Rule::off(),
            auth: Auth::Anyone,
            subscription_name: None,
            open: Rule::off(),
            silent: false,
            early_headers: false,
            ignore_flow_control: false,
            hold_leases: false,
            acknowledge: Rule::off(),
            modify_ack_deadline: Rule::off(),
            admin: Rule::off(),
            subscription: json!({
                "topic": "projects/test/topics/test",
                "pushConfig": {},
                "ackDeadlineSeconds": 10,
                "messageRetentionDuration": "604800s",
                "expirationPolicy": { "ttl": "2678400s" },
                "state": "ACTIVE",
            }),
            topic: json!({ "state": "ACTIVE" }),
            get_policy: Rule::off(),
            policy_bindings: json!([]),
        }
    }
}

impl Faults {
    /// The answer to requests for a subscription of this name, if it doesn't exist.
    pub(crate) fn unknown_subscription(&self, name: &str) -> Option<Status> {
        let is_known = self
            .subscription_name
            .as_ref()
            .is_none_or(|known| known == name);
        (!is_known)
            .then(|| Status::not_found(format!("Subscription does not exist (resource={name}).")))
    }
}

/// A fault, and how many times it happens.
#[derive(Clone, Debug)]
pub struct Rule<T> {
    fault: Option<T>,
    /// `None`: until it is cleared.
    left: Option<u32>,
}

impl<T: Clone> Rule<T> {
    /// It does not happen.
    pub fn off() -> Self {
        Self {
            fault: None,
            left: None,
        }
    }

    /// It happens until it is cleared.
    pub fn always(fault: T) -> Self {
        Self {
            fault: Some(fault),
            left: None,
        }
    }

    /// It happens to the next `count` requests.
    pub fn times(count: u32, fault: T) -> Self {
        Self {
            fault: Some(fault),
            left: Some(count),
        }
    }

    /// The fault that befalls the next request.
    pub(crate) fn next(&mut self) -> Option<T> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        self.fault.clone()
    }
}

/// Whose tokens are accepted.
#[derive(Clone, Debug)]
pub enum Auth {
    /// No token is asked for.
    Anyone,
    /// Only tokens that the holder of this key signed for Pub/Sub, and that are valid now.
    Holder(PublicKey),
    /// None.
    Nobody,
}

/// How a stream ends.
#[derive(Clone, Debug)]
pub enum End {
    /// With this gRPC status.
    Status(Status),
    /// With OK.
    Close,
    /// Its connection is reset, with all that it carries.
    Reset,
}

/// What happens to an Acknowledge or ModifyAckDeadline request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is answered OK and forgotten.
    Lost,
    /// It is forgotten and answered with this gRPC status.
    Status(Status),
    /// It takes effect and is never answered.
    Hang,
}

/// What happens to a GET of the subscription, the topic, or its policy.
#[derive(Clone, Copy, Debug)]
pub enum Admin {
    /// It is answered with this HTTP status, and an error in Google's JSON.
    Status(u16),
    /// It is never answered.
    Hang,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_ends_after_its_count() {
        let mut rule = Rule::times(2, 'x');
        assert_eq!(
            [rule.next(), rule.next(), rule.next()],
            [Some('x'), Some('x'), None]
        );
        let mut rule = Rule::always('x');
        assert_eq!([rule.next(), rule.next(), rule.next()], [Some('x'); 3]);
    }
}
