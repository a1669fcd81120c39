//! A rule's own examples: argvs that it must match, and such that it must not.

use toml::{Spanned, de::DeValue};

use super::{
    Reader,
    values::{Place, a_list, texts},
};
use crate::{auth::policy::rule::Rule, domain::limits};

impl Reader<'_, '_> {
    /// Checks the examples at `match` or `not_match`.
    pub(super) fn examples(
        &mut self,
        found: Option<(&Spanned<DeValue<'_>>, Place<'_>)>,
        rule: &Rule,
        wanted: bool,
    ) {
        let Some((value, place)) = found else { return };
        let Some(command) = &rule.about.command else {
            place.bad(
                value.span().start,
                "are examples of `command`, which is missing",
                self.problems,
            );
            return;
        };
        for entry in a_list(value, &place, self.problems).into_iter().flatten() {
            let at = entry.span().start;
            if entry.get_ref().as_array().is_none() {
                let shape = "must be a list of argvs, such as [[\"git\", \"status\"]]";
                place.bad(at, shape, self.problems);
                continue;
            }
            let argv: Vec<String> =
                texts(entry, &place, self.problems).into_iter().map(|(word, _)| word).collect();
            if argv.is_empty() {
                continue;
            }
            if argv.len() > 2 * limits::POLICY_TOKENS_MAX {
                let most = 2 * limits::POLICY_TOKENS_MAX;
                place.bad(at, &format!("takes at most {most} arguments an example"), self.problems);
                continue;
            }
            if rule.has_argv(command, &argv) != wanted {
                let what = if wanted { "is not matched" } else { "is matched" };
                place.bad(at, &format!("example {argv:?} {what} by the rule"), self.problems);
            }
        }
    }
}
