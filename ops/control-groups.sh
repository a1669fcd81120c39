#!/usr/bin/env bash
# Runs the tests of control groups under a kernel that hands every controller down in version 2:
# user-mode Linux, an ordinary program (Debian package user-mode-linux), on this machine's files,
# which it sees read-only. Where the machine itself has such a hierarchy, `cargo test` shows as much.
#
#   ops/control-groups.sh
set -euo pipefail
cd "$(dirname "$0")/.."

binary=$(cargo test --locked --lib --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$binary" ] || { echo "the tests do not compile" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/init" <<EOF
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t tmpfs none /run; export TMPDIR=/run
mount -t proc none /proc
mount -t sysfs none /sys
mount -t cgroup2 none /sys/fs/cgroup
printf 'controllers: '; cat /sys/fs/cgroup/cgroup.controllers
$binary --test-threads 1 sandbox::cgroup && echo guest: passed
halt -f
EOF
chmod 755 "$work" "$work/init"
# Its own output only: the kernel's goes to another console.
timeout 300 linux.uml mem=1024M root=/dev/root rootfstype=hostfs rootflags=/ ro \
    init="$work/init" con=null con0=fd:0,fd:1 quiet </dev/null 2>&1 | tee "$work/log" || true
grep -q '^controllers:.*memory.*pids' "$work/log" && grep -q '^guest: passed' "$work/log"
