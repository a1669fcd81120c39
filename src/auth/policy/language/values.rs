//! Values of the text by kind; what has another kind is a problem.

use toml::{
    Spanned,
    de::{DeArray, DeValue},
};

use super::problem::{Problems, nearest, shown};
use crate::domain::limits;

/// Where a value stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Of what: a rule, a pattern or the policy.
    pub(super) of: &'a str,
    /// Under which key.
    pub(super) key: &'a str,
}

/// A value with its place.
type At<'v, 'i> = &'v Spanned<DeValue<'i>>;

impl Place<'_> {
    /// Adds a problem about the value.
    pub(super) fn bad(&self, at: usize, what: &str, problems: &mut Problems<'_>) {
        problems.add(at, format!("{}: `{}` {what}", self.of, self.key));
    }
}

/// A text of a sensible length without control characters.
pub(super) fn a_text(
    value: At<'_, '_>,
    place: &Place<'_>,
    problems: &mut Problems<'_>,
) -> Option<String> {
    let at = value.span().start;
    let Some(text) = value.get_ref().as_str() else {
        place.bad(at, "must be a text in quotes", problems);
        return None;
    };
    let most = match place.key {
        "pattern" | "custom_deny_patterns" => limits::POLICY_PATTERN_BYTES_MAX,
        "reason" => limits::REASON_BYTES_MAX,
        // A script or a whole command line.
        "match" | "not_match" => 4 * limits::POLICY_WORD_BYTES_MAX,
        _ => limits::POLICY_WORD_BYTES_MAX,
    };
    if text.is_empty() || text.len() > most {
        place.bad(at, &format!("must be a text of 1 to {most} bytes"), problems);
        return None;
    }
    let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.chars().any(is_odd) {
        place.bad(at, "holds a control character", problems);
        return None;
    }
    Some(text.to_owned())
}

pub(super) fn a_bool(
    value: At<'_, '_>,
    place: &Place<'_>,
    problems: &mut Problems<'_>,
) -> Option<bool> {
    let found = value.get_ref().as_bool();
    if found.is_none() {
        place.bad(value.span().start, "must be true or false", problems);
    }
    found
}

/// A whole number from 1 to a bound.
pub(super) fn a_count(
    value: At<'_, '_>,
    most: u32,
    place: &Place<'_>,
    problems: &mut Problems<'_>,
) -> Option<u32> {
    let number = value.get_ref().as_integer();
    let count = number.and_then(|n| u32::from_str_radix(n.as_str(), n.radix()).ok());
    let count = count.filter(|count| (1..=most).contains(count));
    if count.is_none() {
        let what = format!("must be a whole number from 1 to {most}");
        place.bad(value.span().start, &what, problems);
    }
    count
}

/// A list that is not empty.
pub(super) fn a_list<'v, 'i>(
    value: At<'v, 'i>,
    place: &Place<'_>,
    problems: &mut Problems<'_>,
) -> Option<&'v DeArray<'i>> {
    let at = value.span().start;
    let Some(list) = value.get_ref().as_array() else {
        place.bad(at, "must be a list", problems);
        return None;
    };
    let most = limits::POLICY_LIST_MAX;
    if list.is_empty() && place.of != "the policy" {
        place.bad(at, "is empty, which would match nothing: leave it out or fill it", problems);
        return None;
    }
    if list.len() > most {
        place.bad(at, &format!("has {} entries; at most {most}", list.len()), problems);
        return None;
    }
    Some(list)
}

/// The texts of a list, each with its place; those that are none become problems.
pub(super) fn texts(
    value: At<'_, '_>,
    place: &Place<'_>,
    problems: &mut Problems<'_>,
) -> Vec<(String, usize)> {
    let list = a_list(value, place, problems);
    let texts = list.into_iter().flatten();
    texts.filter_map(|entry| Some((a_text(entry, place, problems)?, entry.span().start))).collect()
}

/// A list of names of one kind, each once; none where it is `["*"]`, which means every one.
pub(super) fn names<T: PartialEq>(
    value: At<'_, '_>,
    place: &Place<'_>,
    problems: &mut Problems<'_>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<Vec<T>> {
    let words = texts(value, place, problems);
    if let [(word, _)] = words.as_slice()
        && word == "*"
    {
        return None;
    }
    let mut found = Vec::with_capacity(words.len());
    for (word, at) in words {
        match read(&word) {
            Ok(name) if found.contains(&name) => {
                place.bad(at, &format!("names `{}` twice", shown(&word)), problems);
            }
            Ok(name) => found.push(name),
            Err(_) if word == "*" => {
                place.bad(at, "holds `*` beside names: `*` stands alone", problems);
            }
            Err(what) => place.bad(at, &what, problems),
        }
    }
    // Wrong names must not read as "every one", should anything go on from here.
    Some(found)
}

/// One of a few words.
pub(super) fn a_choice<T: Copy>(
    value: At<'_, '_>,
    place: &Place<'_>,
    problems: &mut Problems<'_>,
    known: &[(&str, T)],
) -> Option<T> {
    let word = a_text(value, place, problems)?;
    let found = known.iter().find(|(name, _)| *name == word);
    if found.is_none() {
        let what = unknown(&word, known.iter().map(|(name, _)| *name));
        place.bad(value.span().start, &what, problems);
    }
    found.map(|(_, value)| *value)
}

/// What to say of a word that is none of the known ones.
pub(super) fn unknown<'k>(word: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    let list: Vec<&str> = known.clone().collect();
    let hint = nearest(word, known);
    format!("does not know `{}`{hint} ({})", shown(word), list.join(", "))
}
