#!/usr/bin/env bash
# Fuzzes each target for a while, from the inputs that are kept in fuzz/corpus.
#
#   ops/fuzz.sh [seconds-per-target] [target...]      10 seconds, every target
#
# Works on stable Rust: no sanitizer is used (our code has none of its own memory to corrupt, the one
# place with `unsafe` is not reached from here), only libFuzzer's coverage. Needs a C++ compiler.
# An input that breaks a law is left in fuzz/artifacts/<target>; after mending, copy it to
# fuzz/corpus/<target>, where `cargo test` replays it for ever.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-10}
[ $# -eq 0 ] || shift
case "$seconds" in
    '' | *[!0-9]*)
        sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac

if ! command -v c++ >/dev/null; then
    echo "a C++ compiler is missing: apt-get install g++" >&2
    exit 2
fi
tools=$PWD/target/tools
export PATH="$tools/bin:$PATH"
if ! command -v cargo-fuzz >/dev/null; then
    echo "building cargo-fuzz (under a minute, once)"
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$tools/build \
        cargo install --quiet --locked --debug --root "$tools" cargo-fuzz
    rm -rf "$tools/build"
fi

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
cargo fuzz build --sanitizer none

failed=()
for target in "${targets[@]}"; do
    # What is found goes to a directory of its own: the kept inputs are few and chosen.
    found=fuzz/target/found/$target
    mkdir -p "$found"
    log=fuzz/target/found/$target.log
    if cargo fuzz run --sanitizer none "$target" "$found" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 >"$log" 2>&1; then
        printf 'fuzz %-16s ok, %s runs, coverage %s\n' "$target" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
            "$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -d' ' -f2)"
    else
        tail -n 40 "$log"
        printf 'fuzz %-16s FAILED\n' "$target"
        failed+=("$target")
    fi
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
