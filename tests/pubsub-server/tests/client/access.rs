//! Tokens, and the admin requests.

use google_cloud_auth::credentials::Credentials;
use google_cloud_auth::credentials::service_account::{AccessSpecifier, Builder};
use google_cloud_gax::error::rpc;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_pubsub::client::SchemaService;
use pubsub_test_server::{Admin, Auth, Key, Rule, Server};
use serde_json::json;

use crate::support::{SUBSCRIPTION, admin, anyone, message, next, subscriber, wait_until};

const EMAIL: &str = "hearth@test.iam.gserviceaccount.com";

fn credentials(key: &Key, scope: &str) -> Credentials {
    let json = serde_json::from_str(&key.json()).unwrap();
    let scope = AccessSpecifier::from_scopes([scope]);
    Builder::new(json)
        .with_access_specifier(scope)
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_holder_of_the_key_gets_in_and_nobody_else() {
    const SCOPE: &str = "https://www.googleapis.com/auth/pubsub";
    let server = Server::start();
    let (key, other) = (Key::generate(EMAIL), Key::generate(EMAIL));
    server.require_auth(key.public());
    server.publish(["one"]);

    let refused = [
        (anyone(), "no bearer token"),
        (credentials(&other, SCOPE), "kid is"),
        (
            credentials(&key, "https://www.googleapis.com/auth/drive"),
            "the scope is",
        ),
    ];
    for (count, (credentials, reason)) in (1..).zip(refused) {
        let subscriber = subscriber(&server.url(), credentials).await;
        let error = next(&mut subscriber.subscribe(SUBSCRIPTION).build())
            .await
            .unwrap()
            .err();
        assert_eq!(
            error.unwrap().status().unwrap().code,
            rpc::Code::Unauthenticated
        );
        let failures = server.log().auth_failures;
        assert!(failures.len() == count && failures[count - 1].reason.starts_with(reason));
    }

    let credentials = credentials(&key, SCOPE);
    let subscriber = subscriber(&server.url(), credentials.clone()).await;
    let mut stream = subscriber.subscribe(SUBSCRIPTION).build();
    message(&mut stream).await.1.ack();
    wait_until("the ack", || server.unacked().is_empty()).await;
    let admin = admin(&server.url(), credentials).await;
    admin
        .get_subscription()
        .set_subscription(SUBSCRIPTION)
        .send()
        .await
        .unwrap();
    assert_eq!(server.log().tokens.len(), 3);

    server.script(|faults| faults.auth = Auth::Nobody);
    let error = admin
        .get_subscription()
        .set_subscription(SUBSCRIPTION)
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.http_status_code(), Some(401));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_client_reads_the_subscription() {
    let server = Server::start();
    server.script(|faults| faults.subscription["ackDeadlineSeconds"] = json!(42));
    let admin = admin(&server.url(), anyone()).await;
    let get = || {
        admin
            .get_subscription()
            .set_subscription(SUBSCRIPTION)
            .send()
    };

    let subscription = get().await.unwrap();
    assert_eq!(
        (
            subscription.name.as_str(),
            subscription.ack_deadline_seconds
        ),
        (SUBSCRIPTION, 42)
    );
    assert_eq!(subscription.topic, "projects/test/topics/test");

    server.script(|faults| faults.admin = Rule::always(Admin::Status(403)));
    let error = get().await.unwrap_err();
    assert_eq!(error.status().unwrap().code, rpc::Code::PermissionDenied);
    assert_eq!(server.log().admin_requests, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_of_the_topic_is_read() {
    const TOPIC: &str = "projects/test/topics/mine";
    let server = Server::start();
    server.script(|faults| {
        faults.subscription["topic"] = json!(TOPIC);
        let members = ["group:a@example.net"];
        faults.policy_bindings = json!([{"role": "roles/pubsub.publisher", "members": members}]);
    });
    // The library has this request in one client alone.
    let client = SchemaService::builder()
        .with_endpoint(server.url())
        .with_credentials(anyone())
        .with_retry_policy(NeverRetry);
    let client = client.build().await.unwrap();
    let get = |topic| client.get_iam_policy().set_resource(topic).send();

    let policy = get(TOPIC).await.unwrap();
    assert_eq!(policy.bindings[0].role, "roles/pubsub.publisher");
    assert_eq!(policy.bindings[0].members, ["group:a@example.net"]);
    let error = get("projects/test/topics/other").await.unwrap_err();
    assert_eq!(error.status().unwrap().code, rpc::Code::NotFound);

    server.script(|faults| faults.get_policy = Rule::always(Admin::Status(403)));
    let error = get(TOPIC).await.unwrap_err();
    assert_eq!(error.status().unwrap().code, rpc::Code::PermissionDenied);
}
