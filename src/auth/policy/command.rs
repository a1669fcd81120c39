//! Which programs an agent may run without asking. Rules look at argv, never at a joined string.

/// What the list says about an argv.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// On the list, by this rule.
    Listed(&'static str),
    /// Not on the list: the program, made safe to show.
    NotListed(String),
    /// No program can be started from this.
    Invalid(&'static str),
}

/// The rule of a program that is listed by name.
pub(super) const LISTED: &str = "command.listed";
/// The rule of a program that is not.
pub(super) const NOT_LISTED: &str = "command.not_listed";
/// Characters of a program's name that a reason shows.
const SHOWN_CHARS: usize = 80;

/// A listed name matches only the same text. `git` on the list lets `git` through, found on the
/// view's fixed search path, but neither `./git` nor `/tmp/git`, which the model could have
/// written itself.
pub(super) fn check(allowed: &[String], argv: &[String]) -> Finding {
    let Some(program) = argv.first().filter(|p| !p.is_empty()) else {
        return Finding::Invalid("argv must name a program");
    };
    if argv.iter().any(|arg| arg.contains('\0')) {
        return Finding::Invalid("argv must not contain NUL characters");
    }
    if allowed.iter().any(|rule| rule == "*") {
        Finding::Listed("command.any")
    } else if allowed.contains(program) {
        Finding::Listed(LISTED)
    } else {
        let printable = program.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS);
        Finding::NotListed(printable.collect())
    }
}
