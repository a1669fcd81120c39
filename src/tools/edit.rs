//! Replacing text so that doing it twice is the same as doing it once.
//!
//! Invariant: pure. A crash may hide whether an edit was written; it is then simply run again, so
//! an edit that finds its result in place must not change it once more.

/// What an edit makes of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edited {
    /// The new text.
    Changed(String),
    /// The result is there already.
    AlreadyDone,
    /// `old` does not occur.
    NotFound,
    /// `old` occurs another number of times.
    Count(usize),
    /// What it leaves would be changed again by a second run.
    NotRepeatable,
    /// The result would be larger than what may be edited.
    TooLarge,
}

/// Replaces `old` by `new` if it occurs exactly `count` times and the result has at most
/// `bytes_max` bytes. A model chooses all three, and what they multiply to may exceed any memory.
pub(super) fn edit(text: &str, old: &str, new: &str, count: usize, bytes_max: usize) -> Edited {
    match replace(text, old, new, count, bytes_max) {
        // The replacement can form `old` anew with what stands beside it.
        Edited::Changed(once) => match replace(&once, old, new, count, bytes_max) {
            Edited::Changed(_) | Edited::TooLarge => Edited::NotRepeatable,
            _ => Edited::Changed(once),
        },
        other => other,
    }
}

/// An occurrence of `old` inside an occurrence of `new` is a result, not a place to change.
fn replace(text: &str, old: &str, new: &str, count: usize, bytes_max: usize) -> Edited {
    let done: Vec<usize> = if new.is_empty() {
        Vec::new()
    } else {
        text.match_indices(new).map(|(at, _)| at).collect()
    };
    let covers = |at: usize| {
        let before = done.partition_point(|d| *d <= at);
        done.get(before.wrapping_sub(1)).is_some_and(|d| at + old.len() <= d + new.len())
    };
    let open: Vec<usize> =
        text.match_indices(old).map(|(at, _)| at).filter(|at| !covers(*at)).collect();
    if open.is_empty() {
        return if done.is_empty() { Edited::NotFound } else { Edited::AlreadyDone };
    }
    if open.len() != count {
        return Edited::Count(open.len());
    }
    // Occurrences do not overlap, so what is taken away is part of the text.
    let kept = text.len().saturating_sub(count.saturating_mul(old.len()));
    let size = kept.saturating_add(count.saturating_mul(new.len()));
    if size > bytes_max {
        return Edited::TooLarge;
    }
    let mut changed = String::with_capacity(size);
    let mut rest = 0;
    for at in open {
        // Positions come from `match_indices`, so both ends are character boundaries.
        changed.push_str(text.get(rest..at).unwrap_or_default());
        changed.push_str(new);
        rest = at + old.len();
    }
    changed.push_str(text.get(rest..).unwrap_or_default());
    Edited::Changed(changed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edit(text: &str, old: &str, new: &str, count: usize) -> Edited {
        super::edit(text, old, new, count, 1 << 20)
    }

    #[test]
    fn the_count_must_fit() {
        assert_eq!(edit("a b a", "a", "c", 2), Edited::Changed("c b c".to_owned()));
        assert_eq!(edit("a b a", "a", "c", 1), Edited::Count(2));
        assert_eq!(edit("b", "a", "c", 1), Edited::NotFound);
        assert_eq!(edit("xay", "a", "", 1), Edited::Changed("xy".to_owned()));
        assert_eq!(edit("aab", "ab", "b", 1), Edited::NotRepeatable);
    }

    #[test]
    fn a_result_that_holds_the_old_text_is_not_changed_again() {
        let Edited::Changed(once) = edit("let x = 1;", "x", "xx", 1) else { panic!() };
        assert_eq!(once, "let xx = 1;");
        assert_eq!(edit(&once, "x", "xx", 1), Edited::AlreadyDone);
        assert_eq!(
            edit("fn a() {}", "fn a", "pub fn a", 1),
            Edited::Changed("pub fn a() {}".to_owned())
        );
        assert_eq!(edit("pub fn a() {}", "fn a", "pub fn a", 1), Edited::AlreadyDone);
    }

    #[test]
    fn a_result_beyond_the_bound_is_never_built() {
        let text = "a".repeat(1 << 20);
        // 512 GiB if it were.
        let new = "x".repeat(512 << 10);
        assert_eq!(edit(&text, "a", &new, 1 << 20), Edited::TooLarge);
        assert_eq!(edit("aa", "a", &"x".repeat(1 << 19), 2), {
            Edited::Changed("x".repeat(1 << 20))
        });
    }

    proptest! {
        #[test]
        fn twice_is_once(text in "[ab]{0,12}", old in "[ab]{1,3}", new in "[abc]{1,5}", count in 1_usize..4) {
            prop_assume!(old != new);
            if let Edited::Changed(once) = edit(&text, &old, &new, count) {
                let again = edit(&once, &old, &new, count);
                prop_assert!(!matches!(again, Edited::Changed(_)), "{} {:?}", once, again);
            }
        }
    }
}
