//! Writes the glue of the gRPC service from a description in Rust, so that no protoc is needed.

use tonic_build::manual::{Builder, Method, Service};

const MESSAGES: &str = "::googleapis_tonic_google_pubsub_v1::google::pubsub::v1";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let message = |name: &str| format!("{MESSAGES}::{name}");
    let method = |name: &str, route: &str, input: &str, output: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(message(input))
            .output_type(output)
            .codec_path("tonic_prost::ProstCodec")
    };
    let pull = method(
        "streaming_pull",
        "StreamingPull",
        "StreamingPullRequest",
        &message("StreamingPullResponse"),
    );
    let ack = method("acknowledge", "Acknowledge", "AcknowledgeRequest", "crate::service::Empty");
    let modack = method(
        "modify_ack_deadline",
        "ModifyAckDeadline",
        "ModifyAckDeadlineRequest",
        "crate::service::Empty",
    );
    let service = Service::builder()
        .name("Subscriber")
        .package("google.pubsub.v1")
        .method(pull.client_streaming().server_streaming().build())
        .method(ack.build())
        .method(modack.build())
        .build();
    Builder::new().build_client(false).compile(&[service]);
}
