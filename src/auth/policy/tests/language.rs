//! Wrong texts, and what is said about them.

use super::*;

fn problems(text: &str) -> Vec<String> {
    match Policy::parse(text) {
        Ok(_) => Vec::new(),
        Err(error) => error.problems.iter().map(ToString::to_string).collect(),
    }
}

/// The one problem of a text with one rule.
fn problem_of_rule(lines: &str) -> String {
    let found = problems(&format!("version = 1\n[[rule]]\nname = \"r\"\n{lines}\n"));
    assert_eq!(found.len(), 1, "{lines}: {found:#?}");
    found[0].clone()
}

#[test]
fn every_problem_is_told_at_once_with_its_line() {
    let text = "version = 2\n\
                deny_paterns = true\n\
                [[rule]]\n\
                name = \"a\"\n\
                efect = \"deny\"\n\
                [[rule]]\n\
                name = \"a\"\n\
                effect = \"forbid\"\n\
                tools = [\"exce\"]\n\
                [[rule]]\n\
                effect = \"deny\"\n";
    let found = problems(text);
    for (at, wanted) in [
        (0, "line 1: `version` must be 1"),
        (1, "line 2: the policy: unknown key `deny_paterns`: did you mean `deny_patterns`?"),
        (2, "line 3: rule `a`: `effect` is missing"),
        (3, "line 5: rule `a`: unknown key `efect`: did you mean `effect`?"),
        (4, "line 6: rule `a`: line 3 has a rule of this name already"),
        (5, "line 8: rule `a`: `effect` does not know `forbid`"),
        (6, "line 9: rule `a`: `tools` does not know `exce`: did you mean `exec`?"),
        (7, "line 10: a rule without `name`"),
    ] {
        assert!(found.get(at).is_some_and(|f| f.starts_with(wanted)), "{wanted}: {found:#?}");
    }
    assert_eq!(found.len(), 8, "{found:#?}");
}

#[test]
fn broken_toml_is_told_with_its_line() {
    let found = problems("version = 1\n[[rule]]\nname = \"a\neffect = \"deny\"\n");
    assert!(found.first().is_some_and(|f| f.starts_with("line 3: ")), "{found:#?}");
}

#[test]
fn a_wrong_example_names_its_rule_and_itself() {
    let rule = "effect = \"deny\"\ncommand = [[\"git\", [\"push\", \"fetch\"]]]\n";
    let wrong =
        problem_of_rule(&format!("{rule}match = [[\"git\", \"push\"], [\"git\", \"pull\"]]"));
    assert_eq!(
        wrong,
        "line 6: rule `r`: `match` example [\"git\", \"pull\"] is not matched by the rule"
    );
    let wrong = problem_of_rule(&format!("{rule}not_match = [[\"/bin/git\", \"push\", \"-f\"]]"));
    assert!(wrong.contains("`not_match` example") && wrong.contains("is matched"), "{wrong}");
    let wrong = problem_of_rule("effect = \"deny\"\nmatch = [[\"git\"]]");
    assert!(wrong.contains("`command`, which is missing"), "{wrong}");
    policy(&format!(
        "[[rule]]\nname = \"r\"\n{rule}match = [[\"git\", \"push\"]]\nnot_match = [[\"git\"]]"
    ));
}

#[test]
fn what_a_rule_cannot_mean_is_refused() {
    for (lines, wanted) in [
        ("effect = \"deny\"\nagents = []", "is empty, which would match nothing"),
        ("effect = \"deny\"\nagents = [\"A b\"]", "a name has 1 to 64"),
        ("effect = \"deny\"\nagents = [\"*\", \"a\"]", "`*` stands alone"),
        ("effect = \"deny\"\nagents = [\"a\", \"a\"]", "twice"),
        ("effect = \"deny\"\nroles = [\"root\"]", "does not know `root`"),
        ("effect = \"deny\"\nchannels = [\"discord\"]", "or a conversation's id"),
        ("effect = \"deny\"\nrisk = \"hgih\"", "did you mean `high`"),
        ("effect = \"deny\"\ntainted = \"yes\"", "must be true or false"),
        ("effect = \"deny\"\npaths = [\"../x\"]", "write where it leads"),
        ("effect = \"deny\"\npaths = [\"a[\"]", "is no path pattern"),
        ("effect = \"deny\"\npaths = [\"/\"]", "names nothing"),
        ("effect = \"deny\"\naccess = \"write\"", "`paths`, which is missing"),
        ("effect = \"deny\"\nhosts = [\"https://a.example\"]", "holds no host rule"),
        ("effect = \"deny\"\nhosts = [{ host = \"a\", allow_private = true }]", "allow_private"),
        ("effect = \"deny\"\nhosts = [{ hots = \"a\" }]", "holds no host rule"),
        ("effect = \"deny\"\ncommand = [\"git\"]", "each a list of tokens"),
        ("effect = \"deny\"\ncommand = [[]]", "takes 1 to 32 tokens"),
        ("effect = \"deny\"\ncommand = [[\"git\", [\"a\", \"*\"]]]", "`*` stands alone"),
        ("effect = \"deny\"\ncommand = [[\"git\"]]\ntools = [\"shell\"]", "argv of `exec`"),
        ("effect = \"deny\"\nhosts = [\"a.example\"]\ntools = [\"read_file\"]", "`hosts` is about"),
        ("effect = \"deny\"\npaths = [\"a\"]\ntools = [\"ask_user\"]", "`paths` is about"),
        ("effect = \"deny\"\nquorum = 2", "`quorum` is for rules that ask"),
        ("effect = \"allow\"\nset_risk = \"low\"\ncommand = [[\"a\"]]", "for rules that ask"),
        ("effect = \"ask\"\nquorum = 0", "whole number from 1 to 10"),
        ("effect = \"ask\"\nrequire_role = \"member\"", "does not know `member`"),
        ("effect = \"allow\"", "a rule that allows needs `command`"),
        ("effect = \"allow\"\ntools = [\"shell\"]", "a rule that allows needs `command`"),
        ("effect = \"allow\"\ncommand = [[\"*\", \"x\"]]", "names its programs"),
        ("effect = \"allow\"\nhosts = [\"a.example\"]", "lists methods"),
        ("effect = \"deny\"\nreason = \"\"", "1 to 1000 bytes"),
        ("effect = \"deny\"\nreason = \"a\\u001b[2J\"", "control character"),
    ] {
        let found = problem_of_rule(lines);
        assert!(found.contains(wanted), "{lines}: {found}");
    }
}

#[test]
fn wrong_patterns_are_refused_by_name() {
    for (lines, wanted) in [
        ("disabled_deny_patterns = [\"sodu\"]", "did you mean `sudo`"),
        ("custom_deny_patterns = [\"(\"]", "deny pattern `custom-1`: is no regular expression"),
        ("custom_deny_patterns = [\"x*\"]", "matches the empty text"),
        ("custom_deny_patterns = [{ name = \"a\" }]", "`pattern` is missing"),
        ("custom_deny_patterns = [{ name = \"sudo\", pattern = \"x\" }]", "has this name"),
        ("custom_deny_patterns = [{ pattern = \"x\", match = [\"y\"] }]", "does not match its"),
        ("custom_deny_patterns = [{ pattern = \"x\", not_match = [\"x\"] }]", "matches its"),
        ("custom_deny_patterns = [{ pattern = \"x\", nam = \"x\" }]", "did you mean `name`"),
        ("custom_deny_patterns = [1]", "must be a text in quotes"),
        ("custom_deny_patterns = \"x\"", "must be a list"),
        ("deny_patterns = 1", "must be true or false"),
    ] {
        let found = problems(&format!("version = 1\n{lines}\n"));
        assert!(found.len() == 1 && found[0].contains(wanted), "{lines}: {found:#?}");
    }
    policy("disabled_deny_patterns = []\ncustom_deny_patterns = []");
}

#[test]
fn every_bound_is_held_and_named() {
    let rule = |n: usize| format!("[[rule]]\nname = \"r{n}\"\neffect = \"deny\"\n");
    let many: String = (0..5_001).map(rule).collect();
    let long = "x".repeat((1 << 20) + 1);
    let globs =
        format!("[[rule]]\nname = \"r\"\neffect = \"deny\"\npaths = [{}]", "\"a\",".repeat(257));
    let tokens =
        format!("[[rule]]\nname = \"r\"\neffect = \"deny\"\ncommand = [[{}]]", "\"a\",".repeat(33));
    let patterns = format!("custom_deny_patterns = [{}]", "\"a\",".repeat(201));
    let pattern = format!("custom_deny_patterns = [\"{}\"]", "a".repeat(1_001));
    for (text, wanted) in [
        (many, "5001 rules; a policy has at most 5000"),
        (long, "at most 1048576 are read"),
        (globs, "has 257 entries; at most 256"),
        (tokens, "takes 1 to 32 tokens"),
        (patterns, "201 patterns; at most 200"),
        (pattern, "1 to 1000 bytes"),
    ] {
        let found = problems(&format!("version = 1\n{text}"));
        assert!(found.len() == 1 && found[0].contains(wanted), "{wanted}: {found:#.200?}");
    }
    let all: String =
        (0..40).map(|n| rule(n) + &format!("paths = [{}]\n", "\"a\",".repeat(256))).collect();
    let found = problems(&format!("version = 1\n{all}"));
    assert!(found[0].contains("go beyond 10000 patterns"), "{found:#?}");
    // More problems than anybody reads are counted.
    let wrong: Vec<String> = (0..150).map(|n| format!("wrong{n} = 1\n")).collect();
    let wrong = wrong.concat();
    let found = problems(&format!("version = 1\n{wrong}"));
    assert_eq!(found.len(), 101);
    assert!(found[100].ends_with("and 50 more problems"), "{}", found[100]);
}

#[test]
fn a_version_is_the_hash_of_the_text() {
    let one = Policy::parse("version = 1\n").unwrap();
    assert_eq!(one.version(), Policy::builtin().version());
    assert_eq!(one.text(), "version = 1\n");
    let other = Policy::parse("version = 1\n# remark\n").unwrap();
    assert_ne!(one.version(), other.version());
    assert_eq!(one.version().len(), 64);
    assert_eq!(problems(""), ["line 1: `version = 1` is missing at the top"]);
}
