#!/usr/bin/env bash
# Proves that the fault suites see: breaks one promise after the other in a copy of the sources, and
# fails when the suite that guards it does not notice.
#
#   ops/mutations.sh               every mutation
#   ops/mutations.sh epoch hold    only these
#   ops/mutations.sh --list        their names
#
# The copy and what is built of it lie in target/mutations; the sources themselves are not touched.
# The first build takes some minutes, each mutation one to three: only this crate is compiled again.
set -euo pipefail
cd "$(dirname "$0")/.."
sources=$PWD
work=$sources/target/mutations
tree=$work/tree
commit_faults=AGENT_RUNTIME_TEST_FAILPOINTS=all:store.commit.before

# Replaces a text that stands exactly once in a file of the copy.
mutate() {
    python3 - "$tree/$1" "$2" "$3" <<'PYTHON'
import sys
file, old, new = sys.argv[1:]
text = open(file).read()
if text.count(old) != 1:
    sys.exit(f"{file}: the text to be replaced stands there {text.count(old)} times:\n{old}")
open(file, "w").write(text.replace(old, new))
PYTHON
}

# Each one breaks a promise, and says which tests must notice.

# A write does not care whether the run is still ours.
mutation_epoch() {
    mutate src/store/runs.rs '        if now.epoch != believed {' '        if false {'
    mutate src/store/runs/unwritten.rs ' AND runs.epoch = v.column2"' ' AND v.column2 >= 0"'
    suite=(--lib a_write_under_an_old_epoch)
}

# The effect comes first, its intent is committed afterwards.
mutation_swap() {
    mutate src/orchestrator/advance.rs '    tx.runs().save(&run, believed).await?;
    Ok((work, next))' '    if let Next::RunCall(call) = &next {
        let cx = tools::CallContext {
            call_id: call.call_id,
            run: work.id,
            agent: work.agent.as_ref().map(|a| a.name.clone()).unwrap_or_else(|| unreachable!()),
            stop: tokio_util::sync::CancellationToken::new(),
            output: None,
            bound: call.bound.clone(),
        };
        drop(inner.tools.invoke(&call.invocation, Arc::clone(&call.grant), cx).await);
    }
    tx.runs().save(&run, believed).await?;
    Ok((work, next))'
    mutate src/orchestrator/run_task.rs \
        'Outcome::Tool(call.index, self.run_call(&work, call).await)' \
        'Outcome::Tool(call.index, ToolOutcome::message(ToolStatus::Ok, "done").into())'
    suite=(--test failpoints suite)
    with=$commit_faults
}

# The state changes and no event says so.
mutation_event() {
    mutate src/orchestrator/transition.rs '    tx.event(run, body)?;' '    drop(body);'
    suite=(--lib random_commands_do)
}

# The state changes and no audit row says so.
mutation_audit() {
    mutate src/orchestrator/transition.rs \
        '    tx.audit(actor.entry(AuditKind::RunState, run, data));' '    drop((actor, data));'
    suite=(--lib random_commands_do)
}

# Callers hear of a write before it is durable.
mutation_acknowledge() {
    mutate src/store/writer.rs '        answers.push(ran.answer);' '        (ran.answer)(None);'
    suite=(--test failpoints suite)
    with=$commit_faults
}

# A model is asked and nothing is held for it.
mutation_hold() {
    mutate src/orchestrator/model.rs '    run.held_tokens = hold.tokens;' '    run.held_tokens = 0;'
    suite=(--lib random_commands_do)
}

# What a crash left open runs again, unsafe or not.
mutation_rerun() {
    mutate src/domain/tool.rs \
        'I::Crash => Some(Self::Unknown),' 'I::Crash => Some(Self::Proposed),'
    suite=(--lib random_commands_do)
}

# A yes counts for other arguments too.
mutation_arguments() {
    mutate src/orchestrator/consent.rs '            && a.args_hash == now.call.args_hash
' ''
    mutate src/orchestrator/consent.rs 'let text = if approval.args_hash != now.call.args_hash {' \
        'let text = if false {'
    mutate src/orchestrator/consent.rs 'is_bound(approval) && approval.binding != now.binding()' \
        'false && is_bound(approval) && approval.binding != now.binding()'
    suite=(--lib a_yes_for_the_run_covers)
}

all=(epoch event audit hold rerun arguments swap acknowledge)
case "${1:-}" in
    --list)
        printf '%s\n' "${all[@]}"
        exit 0
        ;;
    -h | --help)
        sed -n '2,11s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
esac
[ $# -gt 0 ] && all=("$@")

copy() {
    rm -rf "$tree"
    mkdir -p "$tree"
    git -C "$sources" ls-files -z --cached --others --exclude-standard |
        (cd "$sources" && xargs -0 tar -cf - --ignore-failed-read 2>/dev/null) | tar -xf - -C "$tree"
    # What is older than the last build is not built again: a file that was changed back must be new.
    find "$tree/src" -name '*.rs' -exec touch {} +
}

# Dependencies are built once: those of the ordinary build are taken over where it exists.
if [ ! -d "$work/target" ] && [ -d target/debug ]; then
    mkdir -p "$work/target/debug"
    for part in deps build .fingerprint; do
        cp -a --reflink=auto "target/debug/$part" "$work/target/debug/"
    done
fi

survived=()
for name in "${all[@]}"; do
    declare -F "mutation_$name" >/dev/null || {
        echo "unknown mutation: $name; --list names them" >&2
        exit 2
    }
    begin=$SECONDS suite=() with=AGENT_RUNTIME_TEST_MUTATION=$name
    copy
    "mutation_$name"
    log=$work/$name.log
    # A mutation that does not compile proves nothing.
    if ! (cd "$tree" && CARGO_TARGET_DIR=$work/target RUSTFLAGS=${RUSTFLAGS:-} \
        ${CARGO:-cargo} test --locked --no-run "${suite[@]::${#suite[@]}-1}") >"$log" 2>&1; then
        tail -30 "$log" >&2
        echo "mutation $name ... DOES NOT COMPILE"
        survived+=("$name")
        continue
    fi
    if (cd "$tree" && env "$with" CARGO_TARGET_DIR="$work/target" \
        ${CARGO:-cargo} test --locked "${suite[@]::${#suite[@]}-1}" -- "${suite[-1]}" --nocapture) \
        >>"$log" 2>&1; then
        echo "mutation $name ... SURVIVED ($((SECONDS - begin)) s), see $log"
        survived+=("$name")
    elif ! grep -q '^test .* FAILED\|panicked at' "$log"; then
        echo "mutation $name ... no test failed, see $log"
        survived+=("$name")
    else
        echo "mutation $name ... caught by ${suite[*]} ($((SECONDS - begin)) s)"
    fi
done
rm -rf "$tree"
if [ ${#survived[@]} -gt 0 ]; then
    echo "not caught: ${survived[*]}" >&2
    exit 1
fi
echo "all ${#all[@]} mutations were caught"
