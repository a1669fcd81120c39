#!/usr/bin/env bash
# A private Docker engine for tests: own data, own socket, no registry, nothing of the machine's.
#
#   ops/docker-engine.sh start    starts it and makes the base image `agent-runtime-test:base`; prints
#                                 the socket's path and leaves it in target/docker-engine/socket
#   ops/docker-engine.sh stop     stops it and everything in it
#
# Needs root, and the Debian packages docker.io, mmdebstrap and ca-certificates
# (ops/test.sh installs them). Everything lies under target/docker-engine; the base image is kept
# as target/tools/docker-base.tar.
set -euo pipefail
cd "$(dirname "$0")/.."

state=$PWD/target/docker-engine
base=$PWD/target/tools/docker-base.tar
pid_file=$state/dockerd.pid
# The path of a socket is bounded by 107 bytes, and a worktree may lie deep.
socket_dir=/run/agent-runtime-test-$(printf %s "$state" | sha256sum | cut -c1-12)
socket=$socket_dir/docker.sock
image=agent-runtime-test:base

engine() { docker --host "unix://$socket" "$@"; }
is_running() {
    local pid
    pid=$(cat "$pid_file" 2>/dev/null) || return 1
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]
}

make_base() {
    [ -s "$base" ] && return 0
    mkdir -p "$(dirname "$base")"
    # No pulls: the base is made from the same Debian that this machine installs from.
    local release
    release=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
    mmdebstrap --quiet --format=tar --variant=minbase --include=python3-minimal,ca-certificates \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' "$release" "$base.part"
    mv "$base.part" "$base"
}

start() {
    if [ "$(id -u)" != 0 ]; then
        echo "docker-engine: an engine can be started by root only" >&2
        exit 1
    fi
    local program
    for program in dockerd docker mmdebstrap; do
        command -v "$program" >/dev/null || {
            echo "docker-engine: $program is missing: apt-get install docker.io mmdebstrap" >&2
            exit 1
        }
    done
    if ! is_running; then
        mkdir -p "$state" "$socket_dir"
        # No bridge and no packet rules: the containers of the tests have no network, and nothing
        # of the machine's is changed.
        # The machine's own settings are not ours.
        echo '{}' >"$state/daemon.json"
        setsid dockerd --data-root "$state/root" --exec-root "$socket_dir/exec" \
            --host "unix://$socket" --pidfile "$pid_file" --config-file "$state/daemon.json" \
            --bridge none --iptables=false --ip6tables=false \
            >"$state/log" 2>&1 </dev/null &
    fi
    local tries=0
    until engine version >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 150 ] || { [ "$tries" -gt 15 ] && ! is_running; }; then
            echo "docker-engine: it does not answer; its last words:" >&2
            tail -n 20 "$state/log" >&2
            exit 1
        fi
        sleep 0.2
    done
    make_base
    engine image inspect "$image" >/dev/null 2>&1 || engine import "$base" "$image" >/dev/null
    echo "$socket" >"$state/socket"
    echo "$socket"
}

stop() {
    local pid tries=0
    if is_running; then
        # Containers first: an engine that is only stopped may leave them to their shims.
        engine ps --all --quiet | xargs --no-run-if-empty docker --host "unix://$socket" rm --force \
            >/dev/null || true
        pid=$(cat "$pid_file")
        kill "$pid"
        while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 150 ]; do
            tries=$((tries + 1))
            sleep 0.2
        done
        if kill -0 "$pid" 2>/dev/null; then
            echo "docker-engine: it does not end" >&2
            exit 1
        fi
    fi
    # What a killed engine may have left mounted.
    awk -v root="$state/" -v exec="$socket_dir/" \
        'index($2, root) == 1 || index($2, exec) == 1 { print $2 }' /proc/mounts |
        sort -r | while read -r mount; do umount "$mount" || true; done
    rm -rf "$socket_dir"
}

case "${1:-}" in
    start) start ;;
    stop) stop ;;
    *)
        sed -n '2,10s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac
