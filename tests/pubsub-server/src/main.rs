//! `pubsub-test-server`
fn main() {}
