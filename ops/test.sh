#!/usr/bin/env bash
# Installs what is missing, then runs every check and every test. The same as CI runs.
#
#   ops/test.sh            everything
#   ops/test.sh --quick    without the other architecture, the docker backend, fuzzing, the
#                          demonstration and the documentation
#
# Needs: a Rust toolchain (rustup). Debian packages are installed with apt-get where that is allowed.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false
for argument in "$@"; do
    case "$argument" in
        --quick) quick=true ;;
        -h | --help)
            sed -n '2,8s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *)
            echo "unknown option: $argument" >&2
            exit 2
            ;;
    esac
done

say() { printf '\n== %s\n' "$*"; }

install_packages() {
    local missing=() pair
    # program:package
    for pair in gcc:gcc g++:g++ ld:binutils git:git python3:python3 bash:bash make:make \
        node:nodejs npm:npm curl:curl jq:jq tar:tar gzip:gzip age:age; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    if [ "$quick" = false ]; then
        command -v linux.uml >/dev/null || missing+=(user-mode-linux)
        command -v aarch64-linux-gnu-gcc >/dev/null ||
            missing+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
        for pair in dockerd:docker.io docker:docker.io mmdebstrap:mmdebstrap; do
            command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
        done
    fi
    [ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
    # Not on everybody's PATH.
    [ -x /usr/sbin/squid ] || missing+=(squid)
    # The tests start servers of their own; the one that the package may start is not used.
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
    [ ${#missing[@]} -eq 0 ] && return 0
    say "installing ${missing[*]}"
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

install_tools() {
    if ! command -v cargo >/dev/null; then
        echo "cargo is missing: install Rust with rustup, see https://rustup.rs" >&2
        exit 2
    fi
    for component in rustfmt clippy; do
        cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component"
    done
    tools=$PWD/target/tools
    export PATH="$tools/bin:$PATH"
    if ! command -v cargo-deny >/dev/null; then
        say "building cargo-deny (about two minutes, once)"
        CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$tools/build \
            cargo install --quiet --locked --debug --root "$tools" cargo-deny
        rm -rf "$tools/build"
    fi
}

# The other architecture compiles, its table of system calls included: the compiler holds the
# numbers against those that `libc` knows for it. The C parts need a cross compiler.
check_aarch64() {
    local target=aarch64-unknown-linux-gnu
    rustup target add "$target" &&
        CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CARGO_TARGET_DIR=target/aarch64 \
            cargo check --locked --lib --bins --target "$target"
}

# Daemons that share a real Postgres, with leases of seconds and a server that is killed: by themselves,
# since what else runs would make them late.
check_shared() {
    cargo clippy --locked --test cluster --test postgres -- -D warnings || return 1
    local result=0
    cargo test --locked --test cluster -- --test-threads=1 || result=$?
    cargo test --locked --test postgres || result=$?
    # The fault suites that `check tests` runs on a file, once more: kills, and each failpoint with one
    # of its faults. Their long forms: docs/DURABILITY.md.
    AGENT_RUNTIME_TEST_STORE=postgres AGENT_RUNTIME_TEST_KILLS=25 \
        cargo test --locked --test kill || result=$?
    AGENT_RUNTIME_TEST_STORE=postgres AGENT_RUNTIME_TEST_FAILPOINTS=sample \
        cargo test --locked --test failpoints suite || result=$?
    return "$result"
}

# The docker backend against a private engine, which only root may start.
check_docker() {
    cargo clippy --locked --test docker -- -D warnings || return 1
    ops/docker-engine.sh start || return 1
    local result=0
    cargo test --locked --test docker || result=$?
    ops/docker-engine.sh stop || result=$?
    return "$result"
}

# Each check prints one result line at its end. All of them run; one that fails fails the script.
passed=0
failed=()
check() {
    local name=$1 begin=$SECONDS
    shift
    say "$name"
    if "$@"; then
        passed=$((passed + 1))
        printf 'check %s ... ok (%s s)\n' "$name" $((SECONDS - begin))
    else
        failed+=("$name")
        printf 'check %s ... FAILED (%s s)\n' "$name" $((SECONDS - begin))
    fi
}

install_packages
install_tools
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

check formatting cargo fmt --all --check
check formatting-of-fuzzing cargo fmt --manifest-path fuzz/Cargo.toml --check
check licences-and-sources cargo deny --log-level error check --hide-inclusion-graph bans licenses sources
check lints cargo clippy --locked --all-targets -- -D warnings
check tests cargo test --locked --no-fail-fast
check shared-database check_shared
if [ "$quick" = false ]; then
    check aarch64 check_aarch64
    check control-groups ops/control-groups.sh
    check fuzzing ops/fuzz.sh 10
    check docker check_docker
    check documentation env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet
    check demonstration cargo run --locked --quiet -- demo --yes
fi
printf '\n%s checks passed, %s failed in %s s\n' "$passed" "${#failed[@]}" "$SECONDS"
if [ ${#failed[@]} -gt 0 ]; then
    printf '  failed: %s\n' "${failed[@]}"
    exit 1
fi
