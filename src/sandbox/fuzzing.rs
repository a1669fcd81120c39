//! What holds for every grant and every message; shared by the tests and `fuzz/`.
#![expect(
    clippy::missing_panics_doc,
    reason = "a law that does not hold is what a fuzzer looks for"
)]

use std::{
    fmt::Debug,
    path::{Component, Path, PathBuf},
};

use rustix::net::{RecvFlags, SendFlags};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    kept::Open,
    plan::{self, CallPlan, Plan, PlanError, Program, Tree},
    wire::{self, Message, Report, memory_file},
};
use crate::domain::{Access, CommandRule, Grant, PathRule};

/// Fuzz entry: what arrives at an end of the sandbox's sockets.
pub fn zygote_protocol(data: &[u8]) {
    let Ok((ours, theirs)) = wire::pair() else { return };
    // Whole, shortened by the bound on messages, or not sent at all; never something else.
    if !data.is_empty() && wire::send(&ours, data, &[], SendFlags::DONTWAIT).is_ok() {
        let message = wire::receive(&theirs, RecvFlags::DONTWAIT).unwrap_or_default();
        assert!(data.starts_with(&message.bytes) && !message.bytes.is_empty());
        assert!(message.descriptors.is_empty());
    }
    if let Ok(report) = serde_json::from_slice::<Report>(data) {
        wire::report(&ours, &report, &[]);
        let message = wire::receive(&theirs, RecvFlags::DONTWAIT).unwrap_or_default();
        let again = serde_json::from_slice(&message.bytes).ok();
        let is_long = data.len() > 1_024;
        assert!(again.as_ref() == Some(&report) || is_long, "{report:?} became {again:?}");
    }
    let message = |descriptors| Message { bytes: data.to_vec(), descriptors };
    for descriptors in [Vec::new(), memory_file("request", data).into_iter().collect()] {
        let count = descriptors.len();
        if let Ok((call, rest)) = wire::unpack::<CallPlan>(message(descriptors)) {
            // A request in a file uses up one descriptor, one in the message none.
            assert!(rest.len() == count && data.first() == Some(&b'i'), "{data:?}");
            reads_back(&call);
        }
    }
    wire::unpack::<Open>(message(Vec::new())).ok();
    if let Ok(plan) = serde_json::from_slice::<Plan>(data) {
        reads_back(&plan);
    }
    // The same bytes as the content of a file that a message points to.
    let file = memory_file("request", data).into_iter().collect();
    let pointing = Message { bytes: b"f".to_vec(), descriptors: file };
    let in_file = wire::unpack::<CallPlan>(pointing).ok().map(|(call, rest)| (call, rest.len()));
    let plain = serde_json::from_slice::<CallPlan>(data).ok().map(|call| (call, 0));
    assert_eq!(in_file, plain, "a request means the same wherever it lies");
}

/// What was understood is sent as what is understood again.
fn reads_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let (Ok((ours, theirs)), Ok(packed)) = (wire::pair(), wire::pack(value)) else { return };
    if packed.send(&ours, &[]).is_err() {
        return;
    }
    let message = wire::receive(&theirs, RecvFlags::DONTWAIT).unwrap_or_default();
    let again = wire::unpack::<T>(message).ok().map(|(again, _)| again);
    assert_eq!(again.as_ref(), Some(value));
}

/// Fuzz entry: a grant and a job in lines, the first character of each says what it is.
pub fn plan(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut grant = Grant::new(PathBuf::from("/data/workspaces/a"), CommandRule::Any);
    let (mut data_dir, mut cwd) = (PathBuf::from("/data"), "");
    let (mut argv, mut env) = (Vec::new(), Vec::new());
    for line in text.split('\n').take(64) {
        let mut characters = line.chars();
        let Some(kind) = characters.next() else { continue };
        let rest = characters.as_str();
        let rule = |access| PathRule { path: rest.into(), access };
        match kind {
            'w' => grant.workspace = rest.into(),
            'r' => grant.paths.push(rule(Access::Ro)),
            'p' => grant.paths.push(rule(Access::Rw)),
            // The sandbox hands in the canonical path.
            'd' if rest.starts_with('/') => data_dir = resolved(Path::new(rest)),
            'c' => cwd = rest,
            'x' => grant.may_execute_files = true,
            'o' => grant.commands = CommandRule::Only(vec![rest.to_owned()]),
            'a' => argv.push(rest.to_owned()),
            'e' => env.extend(rest.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()))),
            _ => {}
        }
    }
    let Ok(view) = plan::plan(&grant, &data_dir) else { return };
    keeps_to_the_grant(&view, &grant, &data_dir);
    if let Ok(call) = plan::call(&grant, &view, argv.clone(), &env, cwd) {
        starts_what_was_asked(&call, &argv, &env);
        stays_inside(&call, &view);
    }
    // Without a program nothing is planned, whatever else is asked for.
    let nothing = plan::call(&grant, &view, Vec::new(), &env, cwd);
    assert_eq!(nothing, Err(PlanError::NoProgram));
}

/// Every tree is one that was granted, as it was granted, and none shows or hides what is ours.
fn keeps_to_the_grant(plan: &Plan, grant: &Grant, data_dir: &Path) {
    let workspace = PathRule { path: grant.workspace.clone(), access: Access::Rw };
    let granted: Vec<_> = grant.paths.iter().chain([&workspace]).collect();
    assert_eq!(plan.trees.len(), granted.len());
    for tree in &plan.trees {
        assert_eq!(tree.source, tree.target);
        let is_granted = |rule: &&PathRule| rule.path == tree.target && rule.access == tree.access;
        assert!(granted.iter().any(is_granted), "{tree:?} was not granted");
        let shown = resolved(&tree.target);
        assert!(!resolved(data_dir).starts_with(&shown), "{tree:?} shows {}", data_dir.display());
        for own in ["/", "/proc", "/dev", "/tmp", "/etc", "/usr"] {
            assert!(shown != Path::new(own), "{tree:?} hides {own}");
        }
        assert!(!shown.starts_with("/proc") && !shown.starts_with("/dev"), "{tree:?}");
    }
    let order: Vec<_> = plan.trees.iter().map(|t| t.target.components().count()).collect();
    assert!(order.is_sorted(), "a parent would hide its child: {:?}", plan.trees);
    // What can be written cannot be executed, unless the grant says so.
    let may_do_both = |tree: &Tree| tree.access == Access::Rw && tree.may_execute;
    assert!(grant.may_execute_files || !plan.trees.iter().any(may_do_both), "{:?}", plan.trees);
    assert_eq!(plan.home, grant.workspace);
    assert!(!plan.has_network, "no host was granted");
}

/// The working directory lies in a tree of the view, however it was written.
fn stays_inside(call: &CallPlan, plan: &Plan) {
    assert!(!call.cwd.as_os_str().as_encoded_bytes().contains(&0));
    let cwd = resolved(&call.cwd);
    let is_inside = plan.trees.iter().any(|tree| cwd.starts_with(resolved(&tree.target)));
    assert!(is_inside, "{} is outside of {:?}", call.cwd.display(), plan.trees);
}

/// Arguments and variables arrive as they were given, and none replaces what the sandbox sets.
fn starts_what_was_asked(call: &CallPlan, argv: &[String], env: &[(String, String)]) {
    let Program::Exec { argv: planned, env: all } = &call.program else { return };
    assert_eq!(planned, argv);
    for name in ["PATH", "HOME", "TMPDIR", "LANG"] {
        assert_eq!(all.iter().filter(|(own, _)| own == name).count(), 1, "{name}");
    }
    assert!(env.iter().all(|pair| all.contains(pair)));
    let texts = all.iter().flat_map(|(name, value)| [name, value]).chain(planned);
    assert!(texts.into_iter().all(|text| !text.contains('\0')));
}

/// Where a path leads if nothing on the way is a link.
fn resolved(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            Component::RootDir | Component::Normal(_) | Component::Prefix(_) => out.push(component),
        }
    }
    out
}
