# Recipes; `just --list` shows them.

# What must pass before a change is accepted.
check:
    .ci/run

# All tests, or those whose names hold FILTER.
test FILTER="":
    cargo test {{FILTER}}

# Streaming scripts with virtual time.
script +FILES:
    cargo run -- test {{FILES}}

# kill -9 under load, so many times, and an audit after each. With PROFILE = "--release" as it is shipped.
crash ROUNDS="100" SEED="1" PROFILE="":
    WEIR_CRASH_ROUNDS={{ROUNDS}} WEIR_CRASH_SEED={{SEED}} cargo test {{PROFILE}} --features failpoints --test it crash:: -- --nocapture

# Processes random logs again with other cuts, steps, threads and restarts: five runs a case.
replay CASES="200" SEED="1":
    WEIR_REPLAY_CASES={{CASES}} WEIR_REPLAY_SEED={{SEED}} cargo test --test it processed_again -- --nocapture

# Simulated lives by seed, COUNT of them from SEED on: whole engines on a simulated disk. See docs/simulation.md.
sim SEED COUNT="1":
    WEIR_SIM_SEED={{SEED}} WEIR_SIM_COUNT={{COUNT}} cargo test --release --test it sim::whatever -- --nocapture

# A script that is ended, or fails, at each of its calls of the simulated disk.
points EVERY="1":
    WEIR_SIM_EVERY={{EVERY}} cargo test --release --test it sim::points -- --nocapture

# Writes what is into the expectations of `expect-test`; look at the diff before you commit it.
accept FILTER="":
    UPDATE_EXPECT=1 cargo test {{FILTER}}

# One measurement, by the name of a file in benches/.
bench NAME:
    cargo bench --bench {{NAME}}

# State of so many megabytes: pauses and bytes of snapshots, and the time from a start after kill -9 to the first answers.
recovery MB="1000" SHAPE="both":
    WEIR_RECOVERY_MB={{MB}} WEIR_RECOVERY_SHAPE={{SHAPE}} cargo bench --bench recovery

# Needs a nightly compiler and cargo-fuzz. Targets: the files of fuzz/fuzz_targets/
fuzz TARGET SECONDS="600":
    cargo +nightly fuzz run {{TARGET}} -- -max_total_time={{SECONDS}}

# Licences and advisories of dependencies; needs cargo-deny.
deny:
    cargo deny check
