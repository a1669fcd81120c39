//! Which programs an agent may run without asking, and what rules say about an argv. Rules look at
//! argv, token by token, never at a joined string.

use super::verdict::Outcome;

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

/// The beginning of an argv, as a rule writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    /// Never empty.
    pub(super) tokens: Vec<Token>,
}

/// One argument of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Any one argument.
    Any,
    /// One of these texts.
    OneOf(Vec<String>),
}

impl Prefix {
    /// Whether an argv begins like this. A rule that denies or asks means a program wherever it
    /// lies (`rm` is also `/bin/rm`); one that allows means the very text.
    pub(super) fn matches(&self, argv: &[String], effect: Outcome) -> bool {
        let is_long_enough = argv.len() >= self.tokens.len();
        is_long_enough
            && self.tokens.iter().zip(argv).enumerate().all(|(at, (token, arg))| match token {
                Token::Any => true,
                Token::OneOf(texts) => texts.iter().any(|text| {
                    text == arg || (at == 0 && effect != Outcome::Allow && text == file_name(arg))
                }),
            })
    }

    /// The programs that it names; none when it means any.
    pub(super) fn programs(&self) -> Option<&[String]> {
        match self.tokens.first() {
            Some(Token::OneOf(names)) => Some(names),
            Some(Token::Any) | None => None,
        }
    }
}

/// The last part of a program's path.
pub(super) fn file_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(args: &[&str]) -> Vec<String> {
        args.iter().map(|&a| a.to_owned()).collect()
    }

    fn one(text: &str) -> Token {
        Token::OneOf(vec![text.to_owned()])
    }

    #[test]
    fn a_prefix_compares_token_by_token() {
        let either = Token::OneOf(argv(&["status", "log"]));
        let prefix = Prefix { tokens: vec![one("git"), Token::Any, either] };
        for effect in Outcome::ALL {
            for yes in [&["git", "-v", "log"][..], &["git", "", "status", "--all"]] {
                assert!(prefix.matches(&argv(yes), effect), "{yes:?}");
            }
            for no in [&["git", "log"][..], &["git", "-v", "logs"], &["got", "-v", "log"], &[]] {
                assert!(!prefix.matches(&argv(no), effect), "{no:?}");
            }
        }
    }

    #[test]
    fn what_is_denied_is_denied_by_its_path_too_and_what_is_allowed_is_not() {
        let prefix = Prefix { tokens: vec![one("rm")] };
        for path in ["/bin/rm", "./rm", "../../usr/bin/rm"] {
            assert!(prefix.matches(&argv(&[path]), Outcome::Deny));
            assert!(prefix.matches(&argv(&[path]), Outcome::Ask));
            assert!(!prefix.matches(&argv(&[path]), Outcome::Allow));
        }
        let exact = Prefix { tokens: vec![one("/opt/tool")] };
        assert!(exact.matches(&argv(&["/opt/tool"]), Outcome::Allow));
        assert!(!exact.matches(&argv(&["tool"]), Outcome::Deny));
        // An argument is not a program.
        let second = Prefix { tokens: vec![one("env"), one("rm")] };
        assert!(!second.matches(&argv(&["env", "/bin/rm"]), Outcome::Deny));
    }
}
