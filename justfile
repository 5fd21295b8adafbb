# `just` lists these. Each is a plain command that also works without just.

_list:
    @just --list --unsorted

# everything that CI runs
check:
    .ci/run

# all tests, or those whose name contains FILTER
test *FILTER:
    scripts/test {{ FILTER }}

# put the code into its form
fmt:
    cargo fmt --all

# what the compiler, clippy and the licence rules say
lint:
    cargo clippy --workspace --locked --all-targets -- -D warnings
    cargo deny check

# measurements
bench *NAME:
    scripts/bench {{ NAME }}

scenario := "fixtures/scenarios/s1_doorbell_with_clip.jsonl"

# a doorbell rings: captured messages in, notifications out
demo FILE=scenario:
    cargo run --locked -- replay --records notification {{ FILE }}
