#!/usr/bin/env bash
# Installs what the benchmarks compare with, then runs them and prints their tables.
#
#   ops/bench.sh [--quick]     sandbox, load and policy
set -euo pipefail
cd "$(dirname "$0")/.."
missing=()
for pair in bwrap:bubblewrap curl:curl; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
cargo bench --locked --bench sandbox -- "$@"
cargo bench --locked --bench load -- "$@"
cargo bench --locked --bench policy -- "$@"
