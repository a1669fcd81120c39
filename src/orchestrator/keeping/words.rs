//! Finds what names a person in texts, and puts something else there.
//!
//! Invariant: an id that nobody else has is replaced wherever it stands; a name, which may be a word
//! of the language, only as a whole word, and never where a row says what kind of thing it is: the
//! row must stay readable.

use serde_json::{Map, Value};

use crate::domain::PrincipalId;

/// What stands where a person's own words stood.
pub(super) const ERASED: &str = "[erased]";
/// Shorter words of a person are replaced only where they are the whole text.
const PIECE_BYTES_MIN: usize = 12;
/// Names shorter than this are initials and parts of words.
const NAME_CHARS_MIN: usize = 2;

/// Fields whose words are ours: a person who is called like an agent or a tool does not change
/// them.
const OUR_WORDS: &[&str] = &[
    "agent", "tool", "type", "kind", "role", "state", "status", "model", "rule", "layer", "effect",
    "risk", "surface", "scope", "verdict", "what", "verb", "event", "from", "to", "action",
];
/// Fields of rows by or about a person that hold what somebody wrote, or where they came from.
const FREE_TEXT: &[&str] = &[
    "reason",
    "path",
    "url",
    "address",
    "account",
    "display",
    "label",
    "note",
    "detail",
    "argv",
    "script",
    "title",
    "text",
    "comment",
    "permissions",
];

/// A person, as texts may name them.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) id: PrincipalId,
    pub(super) pseudonym: PrincipalId,
    /// Ids that nobody else has.
    ids: Vec<String>,
    names: Vec<String>,
    /// What they wrote, word for word.
    said: Vec<String>,
}

impl Person {
    pub(super) fn new(id: PrincipalId, pseudonym: PrincipalId, known_as: &[String]) -> Self {
        let is_id = |name: &&String| {
            ["tok_", "lnk_", "pair_"].iter().any(|prefix| name.starts_with(prefix))
        };
        let is_name = |name: &&String| name.chars().count() >= NAME_CHARS_MIN;
        Self {
            id,
            pseudonym,
            ids: known_as.iter().filter(is_id).cloned().collect(),
            names: known_as.iter().filter(|n| !is_id(n)).filter(is_name).cloned().collect(),
            said: Vec::new(),
        }
    }

    /// The same, with texts that they wrote.
    pub(super) fn having_said(&self, said: Vec<String>) -> Self {
        let said = said.into_iter().filter(|text| !text.trim().is_empty()).collect();
        Self { said, ..self.clone() }
    }

    /// The text without the person; none where it does not name them.
    pub(super) fn scrub(&self, text: &str) -> Option<String> {
        self.scrubbed(text, true)
    }

    fn scrubbed(&self, text: &str, with_names: bool) -> Option<String> {
        let mut out = text.to_owned();
        for said in &self.said {
            if out == *said {
                ERASED.clone_into(&mut out);
            } else if said.len() >= PIECE_BYTES_MIN && out.contains(said) {
                out = out.replace(said, ERASED);
            }
        }
        let id = self.id.to_string();
        if out.contains(&id) {
            out = out.replace(&id, &self.pseudonym.to_string());
        }
        for id in self.ids.iter().filter(|id| text.contains(*id)) {
            out = out.replace(id, ERASED);
        }
        if with_names {
            for name in &self.names {
                out = replace_word(&out, name);
            }
        }
        (out != text).then_some(out)
    }

    /// Whether a text names the person.
    pub(super) fn is_named_in(&self, text: &str) -> bool {
        self.scrub(text).is_some()
    }

    /// JSON without the person; whether it named them. With `is_theirs` what people wrote goes too.
    pub(super) fn scrub_json(&self, value: &mut Value, is_theirs: bool) -> bool {
        self.scrub_value(value, None, is_theirs)
    }

    fn scrub_value(&self, value: &mut Value, field: Option<&str>, is_theirs: bool) -> bool {
        match value {
            Value::String(text) => self.scrub_field(text, field, is_theirs),
            Value::Array(items) => {
                let each = |item: &mut Value| self.scrub_value(item, field, is_theirs);
                items.iter_mut().map(each).fold(false, |any, is| any | is)
            }
            Value::Object(fields) => self.scrub_fields(fields, is_theirs),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    fn scrub_fields(&self, fields: &mut Map<String, Value>, is_theirs: bool) -> bool {
        let mut any = false;
        for (name, value) in fields.iter_mut() {
            any |= self.scrub_value(value, Some(name), is_theirs);
        }
        any
    }

    fn scrub_field(&self, text: &mut String, field: Option<&str>, is_theirs: bool) -> bool {
        let is_one_of = |list: &[&str]| field.is_some_and(|field| list.contains(&field));
        if is_theirs && is_one_of(FREE_TEXT) && text != ERASED {
            ERASED.clone_into(text);
            return true;
        }
        match self.scrubbed(text, !is_one_of(OUR_WORDS)) {
            Some(clean) => {
                *text = clean;
                true
            }
            None => false,
        }
    }
}

/// Replaces a name where no letter or digit stands beside it.
fn replace_word(text: &str, name: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some((head, tail)) = rest.split_once(name) {
        out.push_str(head);
        let is_begun = head.chars().next_back().or(before).is_some_and(char::is_alphanumeric);
        let goes_on = tail.chars().next().is_some_and(char::is_alphanumeric);
        out.push_str(if is_begun || goes_on { name } else { ERASED });
        before = name.chars().next_back();
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::domain::{IdSource, ManualClock};

    fn person(names: &[&str]) -> Person {
        let ids = IdSource::new(Arc::new(ManualClock::at_secs(1)), |b| b.fill(7));
        let other = IdSource::new(Arc::new(ManualClock::at_secs(2)), |b| b.fill(8));
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        Person::new(PrincipalId::new(&ids), PrincipalId::new(&other), &names)
    }

    #[test]
    fn a_name_is_replaced_as_a_word_and_an_id_wherever_it_stands() {
        let ann = person(&["ann", "tok_01", "x"]);
        let scrub = |text: &str| ann.scrub(text);
        assert_eq!(
            scrub("`ann`, ann's and /home/ann").unwrap(),
            "`[erased]`, [erased]'s and /home/[erased]"
        );
        assert_eq!(scrub("annoying Joann x"), None);
        assert_eq!(scrub("annann ann").unwrap(), "annann [erased]");
        assert_eq!(scrub("see tok_01.").unwrap(), "see [erased].");
        let id = ann.id.to_string();
        assert_eq!(scrub(&format!("a{id}b")).unwrap(), format!("a{}b", ann.pseudonym));
    }

    #[test]
    fn what_a_row_is_about_stays_readable() {
        let ann = person(&["builder"]);
        let mut row =
            json!({ "agent": "builder", "before": { "name": "builder" }, "n": [1, "builder"] });
        assert!(ann.scrub_json(&mut row, false));
        let expected =
            json!({ "agent": "builder", "before": { "name": ERASED }, "n": [1, ERASED] });
        assert_eq!(row, expected);
        assert!(!ann.scrub_json(&mut row, false));
    }

    #[test]
    fn free_text_goes_in_rows_of_their_own_and_their_words_everywhere() {
        let ann = person(&[]).having_said(vec!["no".to_owned(), "call me at noon".to_owned()]);
        let mut row = json!({ "reason": "I am tired", "verb": "cancel" });
        assert!(!ann.scrub_json(&mut row, false));
        assert!(ann.scrub_json(&mut row, true));
        assert_eq!(row, json!({ "reason": ERASED, "verb": "cancel" }));
        assert!(!ann.scrub_json(&mut row, true));
        let mut row = json!({ "input": "no", "text": "nothing: call me at noon!" });
        assert!(ann.scrub_json(&mut row, false));
        assert_eq!(row, json!({ "input": ERASED, "text": "nothing: [erased]!" }));
    }
}
