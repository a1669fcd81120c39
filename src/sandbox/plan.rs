//! What a sandbox will look like, worked out before anything is touched.
//!
//! Invariants: pure; whatever is refused here never reaches the helper. [`Plan`] is what a kept
//! sandbox is built from, [`CallPlan`] what each call adds.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    bound::Exact, canary::Attempts, limits::Rlimits, net, net_canary::NetAttempts,
    wire::DESCRIPTORS_MAX,
};
use crate::domain::{Access, CommandRule, Grant};

/// Trees in one view: what fits into one message beside the five other descriptors.
const TREES_MAX: usize = DESCRIPTORS_MAX - 5;
/// Bytes of one argument or variable: the kernel's bound (`MAX_ARG_STRLEN`), less the final null.
pub const ARGUMENT_BYTES_MAX: usize = (128 << 10) - 1;
/// Bytes of all arguments and variables: well under the kernel's quarter of the stack.
const ARGUMENTS_BYTES_MAX: usize = 1 << 20;
/// Where programs are looked for.
pub(super) const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// Variables that the sandbox sets itself.
const RESERVED: [&str; 5] = ["PATH", "HOME", "TMPDIR", "LANG", "PWD"];
/// Where `git init` looks for what it copies into a new repository: empty means nowhere.
const GIT_TEMPLATES: &str = "GIT_TEMPLATE_DIR";
/// Trees that the view makes itself, and the root: nothing may be mounted over or above them.
const OWN_TREES: [&str; 6] = ["/", "/proc", "/dev", "/tmp", "/etc", "/usr"];

/// What a kept sandbox looks like: the same for every call of its profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "four facts that do not depend on each other")]
pub(super) struct Plan {
    /// Trees shown at their own path, parents before children.
    pub(super) trees: Vec<Tree>,
    /// The only programs that exist in the view, or nothing for all of the machine's.
    pub(super) programs: Option<Vec<String>>,
    /// Whether files in writable places may be executed.
    pub(super) may_execute_files: bool,
    /// The private `/tmp`.
    pub(super) tmp_bytes: u64,
    pub(super) tmp_inodes: u64,
    /// Whether there are namespaces, and with them a view of its own. Without, Landlock alone
    /// keeps the call to the same trees.
    pub(super) has_namespaces: bool,
    /// Whether `/proc` is mounted; not possible where the host masks its own.
    pub(super) has_proc: bool,
    /// Whether there are listeners, and sockets to reach them.
    pub(super) has_network: bool,
    /// Home directory: the workspace, in which some names are protected.
    pub(super) home: PathBuf,
}

impl Plan {
    /// Landlock adds rights up along a path. A tree that may do less than one above it needs mounts.
    ///
    /// # Errors
    /// [`PlanError::CannotBeLess`] names such a tree.
    pub(super) fn holds_without_mounts(&self) -> Result<(), PlanError> {
        let is_less = |tree: &Tree, above: &Tree| {
            tree.target != above.target
                && tree.target.starts_with(&above.target)
                && ((tree.access == Access::Ro && above.access == Access::Rw)
                    || (!tree.may_execute && above.may_execute))
        };
        let less = self.trees.iter().find(|tree| self.trees.iter().any(|a| is_less(tree, a)));
        match less {
            Some(tree) if !self.has_namespaces => Err(PlanError::CannotBeLess(tree.target.clone())),
            _ => Ok(()),
        }
    }
}

/// What one call does in a kept sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CallPlan {
    pub(super) limits: Rlimits,
    /// Whether the call waits, before it begins, for the daemon to put it into a control group.
    pub(super) waits: bool,
    /// Working directory, absolute.
    pub(super) cwd: PathBuf,
    /// What must be found as it was approved, if anybody was asked.
    pub(super) exact: Option<Exact>,
    pub(super) program: Program,
}

/// A tree of the host that the sandbox sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tree {
    /// Where it lies on the host; opened without following any link.
    pub(super) source: PathBuf,
    /// Where it appears.
    pub(super) target: PathBuf,
    pub(super) access: Access,
    /// Whether anything in it may be executed or mapped as code.
    pub(super) may_execute: bool,
}

/// What runs once everything is in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Program {
    /// A program of the view; `env` is complete.
    Exec { argv: Vec<String>, env: Vec<(String, String)> },
    /// Our own attempts to get out, written to standard output as JSON.
    Canary(Attempts),
    /// Our own attempts to get past the doors of the network, likewise.
    NetCanary(NetAttempts),
    /// Somebody in another sandbox whom those attempts must not reach.
    Sibling(Attempts),
}

/// Why a job cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No program was named.
    #[error("no program was given")]
    NoProgram,
    /// An argument or variable cannot be passed to a program.
    #[error(
        "an argument or environment variable holds a NUL byte, has no valid name or is reserved"
    )]
    BadArgument,
    /// Arguments and environment do not fit.
    #[error(
        "the arguments are too long: at most {ARGUMENT_BYTES_MAX} bytes each and \
         {ARGUMENTS_BYTES_MAX} bytes in all; put the text into a file instead"
    )]
    TooLong,
    /// A path of the grant is not usable as a mount.
    #[error("path {0} of the grant must be absolute, without `..`, and not a system tree")]
    BadPath(PathBuf),
    /// A granted tree would show the daemon's own data.
    #[error("path {0} of the grant would show the daemon's data directory to tools")]
    ShowsDataDir(PathBuf),
    /// Without mounts of its own, rights to a tree hold for everything below it.
    #[error(
        "path {0} of the grant lies in a tree with more rights, which cannot be taken back at the \
         level `landlock`; name it elsewhere or allow namespaces"
    )]
    CannotBeLess(PathBuf),
    /// Too many trees.
    #[error("the grant names more than {TREES_MAX} paths")]
    TooManyPaths,
    /// The working directory is outside of everything granted.
    #[error("working directory {0} is outside the workspace and the allowed paths")]
    BadCwd(String),
}

/// Plans the sandbox that calls under this grant share.
pub(super) fn plan(grant: &Grant, data_dir: &Path) -> Result<Plan, PlanError> {
    Ok(Plan {
        trees: trees(grant, data_dir)?,
        programs: programs(grant),
        may_execute_files: grant.may_execute_files,
        tmp_bytes: grant.limits.tmp_bytes,
        tmp_inodes: grant.limits.tmp_inodes,
        has_namespaces: true,
        has_proc: true,
        has_network: !grant.hosts.allow.is_empty(),
        home: grant.workspace.clone(),
    })
}

/// Plans one call in a sandbox that was planned for its grant.
pub(super) fn call(
    grant: &Grant,
    plan: &Plan,
    argv: Vec<String>,
    env: &[(String, String)],
    cwd: &str,
) -> Result<CallPlan, PlanError> {
    if argv.first().is_none_or(String::is_empty) {
        return Err(PlanError::NoProgram);
    }
    let env = environment(grant, plan, env)?;
    check_lengths(&argv, &env)?;
    with_program(grant, plan, cwd, Program::Exec { argv, env })
}

/// Plans a call of any program.
pub(super) fn with_program(
    grant: &Grant,
    plan: &Plan,
    cwd: &str,
    program: Program,
) -> Result<CallPlan, PlanError> {
    let cwd = grant.workspace.join(cwd);
    let is_inside = plan.trees.iter().any(|t| cwd.starts_with(&t.target));
    if !is_inside || !is_plain(&cwd) {
        return Err(PlanError::BadCwd(cwd.display().to_string()));
    }
    Ok(CallPlan { limits: Rlimits::from(&grant.limits), waits: false, cwd, exact: None, program })
}

/// The list that the view is narrowed to.
fn programs(grant: &Grant) -> Option<Vec<String>> {
    match &grant.commands {
        CommandRule::Any => None,
        CommandRule::None => Some(Vec::new()),
        CommandRule::Only(names) => Some(names.clone()),
    }
}

/// What a tool can write it cannot execute. What it cannot write may hold programs where all of
/// them are allowed, or where the list names one in there.
fn may_execute(grant: &Grant, tree: &Path, access: Access) -> bool {
    let holds_listed = || match &grant.commands {
        CommandRule::Any => true,
        CommandRule::None => false,
        CommandRule::Only(names) => names.iter().any(|name| Path::new(name).starts_with(tree)),
    };
    grant.may_execute_files || (access == Access::Ro && holds_listed())
}

fn trees(grant: &Grant, data_dir: &Path) -> Result<Vec<Tree>, PlanError> {
    if grant.paths.len() >= TREES_MAX {
        return Err(PlanError::TooManyPaths);
    }
    let tree = |path: &PathBuf, access| Tree {
        source: path.clone(),
        target: path.clone(),
        access,
        may_execute: may_execute(grant, path, access),
    };
    let mut trees = vec![tree(&grant.workspace, Access::Rw)];
    trees.extend(grant.paths.iter().map(|rule| tree(&rule.path, rule.access)));
    for tree in &trees {
        let is_own = OWN_TREES.iter().any(|own| tree.target == Path::new(own));
        let is_beneath_own = ["/proc", "/dev"].iter().any(|own| tree.target.starts_with(own));
        let is_text = tree.target.to_str().is_some();
        if !tree.target.is_absolute()
            || !is_plain(&tree.target)
            || is_own
            || is_beneath_own
            || !is_text
        {
            return Err(PlanError::BadPath(tree.target.clone()));
        }
        if data_dir.starts_with(&tree.target) {
            return Err(PlanError::ShowsDataDir(tree.target.clone()));
        }
    }
    // Parents first, so that a child tree is mounted over its parent and not hidden by it.
    trees.sort_by_key(|t| t.target.components().count());
    Ok(trees)
}

/// Whether a path has no `..` in it, and no NUL, which the kernel would take for its end.
fn is_plain(path: &Path) -> bool {
    !path.as_os_str().as_encoded_bytes().contains(&0)
        && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

fn environment(
    grant: &Grant,
    plan: &Plan,
    extra: &[(String, String)],
) -> Result<Vec<(String, String)>, PlanError> {
    let home = grant.workspace.display().to_string();
    // Without a view there is no private `/tmp`.
    let tmp = if plan.has_namespaces { "/tmp".to_owned() } else { home.clone() };
    let mut env = vec![
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOME".to_owned(), home),
        ("TMPDIR".to_owned(), tmp),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ];
    if plan.has_network {
        env.extend(proxy_variables(extra));
    }
    // Hooks are protected in a workspace, and a template would be copied there.
    if !extra.iter().any(|(name, _)| name == GIT_TEMPLATES) {
        env.push((GIT_TEMPLATES.to_owned(), String::new()));
    }
    for (name, value) in extra {
        let is_name = !name.is_empty() && !name.contains(['=', '\0']);
        if !is_name || value.contains('\0') || RESERVED.contains(&name.as_str()) {
            return Err(PlanError::BadArgument);
        }
        env.push((name.clone(), value.clone()));
    }
    Ok(env)
}

/// The proxy for programs that look for one, unless the call names another: it would reach nothing
/// else either.
fn proxy_variables(extra: &[(String, String)]) -> impl Iterator<Item = (String, String)> {
    let proxy = format!("http://127.0.0.1:{}", net::PROXY_PORT);
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].map(|name| (name, proxy.clone()));
    names
        .into_iter()
        .chain([("NO_PROXY", String::new())])
        .flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_lowercase(), value)])
        .filter(|(name, _)| !extra.iter().any(|(given, _)| given == name))
}

fn check_lengths(argv: &[String], env: &[(String, String)]) -> Result<(), PlanError> {
    if argv.iter().any(|a| a.contains('\0')) {
        return Err(PlanError::BadArgument);
    }
    let lengths =
        argv.iter().map(String::len).chain(env.iter().map(|(n, v)| n.len() + v.len() + 1));
    let (mut total, mut longest) = (0_usize, 0_usize);
    for length in lengths {
        total = total.saturating_add(length).saturating_add(9);
        longest = longest.max(length);
    }
    if longest > ARGUMENT_BYTES_MAX || total > ARGUMENTS_BYTES_MAX {
        return Err(PlanError::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CommandRule, PathRule, ToolLimits};

    fn grant(paths: &[(&str, Access)]) -> Grant {
        Grant {
            workspace: "/data/workspaces/a".into(),
            paths: paths
                .iter()
                .map(|(path, access)| PathRule { path: path.into(), access: *access })
                .collect(),
            commands: CommandRule::Any,
            may_execute_files: true,
            hosts: std::sync::Arc::default(),
            same_host_only: false,
            egress: crate::domain::EgressLimits::default(),
            limits: ToolLimits::default(),
        }
    }

    fn planned(grant: &Grant, argv: &[&str], cwd: &str) -> Result<CallPlan, PlanError> {
        let argv = argv.iter().map(|a| (*a).to_owned()).collect();
        call(grant, &plan(grant, Path::new("/data"))?, argv, &[], cwd)
    }

    #[test]
    fn what_can_be_written_is_not_executed_unless_the_grant_says_so() {
        let rules = [("/srv/rw", Access::Rw), ("/srv/ro", Access::Ro), ("/opt/tool", Access::Ro)];
        let executable = |commands: CommandRule, may_execute_files| {
            let grant = Grant { commands, may_execute_files, ..grant(&rules) };
            let plan = plan(&grant, Path::new("/data")).unwrap();
            let trees = plan.trees.into_iter().filter(|t| t.may_execute).map(|t| t.target);
            let mut found: Vec<_> = trees.map(|t| t.display().to_string()).collect();
            found.sort();
            found
        };
        let only = |name: &str| CommandRule::Only(vec![name.to_owned()]);
        assert_eq!(executable(CommandRule::Any, false), ["/opt/tool", "/srv/ro"]);
        assert_eq!(executable(only("git"), false), [""; 0]);
        assert_eq!(executable(only("/opt/tool/bin/x"), false), ["/opt/tool"]);
        assert_eq!(executable(only("/srv/rw/x"), false), [""; 0]);
        assert_eq!(executable(only("git"), true).len(), 4);
    }

    #[test]
    fn parents_are_mounted_before_children() {
        let grant = grant(&[("/srv/a/b/c", Access::Ro), ("/srv", Access::Rw)]);
        let plan = plan(&grant, Path::new("/data")).unwrap();
        let targets: Vec<_> = plan.trees.iter().map(|t| t.target.to_str().unwrap()).collect();
        assert_eq!(targets, ["/srv", "/data/workspaces/a", "/srv/a/b/c"]);
    }

    #[test]
    fn a_path_that_would_hide_the_view_or_show_the_store_is_refused() {
        for path in ["/", "/usr", "/proc/1", "/dev", "srv", "/srv/../etc", "/tmp", "/srv/a\0b"] {
            let error = planned(&grant(&[(path, Access::Ro)]), &["true"], "").unwrap_err();
            assert_eq!(error, PlanError::BadPath(path.into()));
        }
        let error = planned(&grant(&[("/data", Access::Ro)]), &["true"], "").unwrap_err();
        assert_eq!(error, PlanError::ShowsDataDir("/data".into()));
        assert!(planned(&grant(&[("/data/shared", Access::Ro)]), &["true"], "").is_ok());
    }

    #[test]
    fn the_working_directory_stays_inside() {
        let grant = grant(&[("/srv", Access::Ro)]);
        for cwd in ["", "src", "/srv/x", "/data/workspaces/a/b"] {
            assert!(planned(&grant, &["true"], cwd).is_ok(), "{cwd}");
        }
        for cwd in ["..", "a/../..", "/etc", "/data/workspaces", "/data/workspaces/ab", "a\0b"] {
            assert!(matches!(planned(&grant, &["true"], cwd), Err(PlanError::BadCwd(_))), "{cwd}");
        }
    }

    #[test]
    fn arguments_are_checked_before_the_kernel_sees_them() {
        let grant = grant(&[]);
        let long = "x".repeat(ARGUMENT_BYTES_MAX + 1);
        let fits = "x".repeat(ARGUMENT_BYTES_MAX);
        assert_eq!(planned(&grant, &[], ""), Err(PlanError::NoProgram));
        assert_eq!(planned(&grant, &["a\0b"], ""), Err(PlanError::BadArgument));
        assert_eq!(planned(&grant, &["sh", &long], ""), Err(PlanError::TooLong));
        assert!(planned(&grant, &["sh", &fits], "").is_ok());
        let many = vec!["y".repeat(1_000); 1_100];
        let plan = plan(&grant, Path::new("/data")).unwrap();
        assert_eq!(call(&grant, &plan, many, &[], ""), Err(PlanError::TooLong));
    }

    #[test]
    fn a_call_cannot_replace_what_the_sandbox_sets() {
        let grant = grant(&[]);
        let plan = plan(&grant, Path::new("/data")).unwrap();
        let argv = || vec!["true".to_owned()];
        let with =
            |n: &str, v: &str| call(&grant, &plan, argv(), &[(n.to_owned(), v.to_owned())], "");
        assert!(with("FOO", "1").is_ok());
        for (name, value) in [("PATH", "/x"), ("HOME", "/"), ("", "1"), ("A=B", "1"), ("A", "\0")] {
            assert_eq!(with(name, value), Err(PlanError::BadArgument));
        }
    }
}
