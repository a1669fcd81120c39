//! Keeps registered secret values out of everything that leaves.
//!
//! Only known values and their common encodings are looked for; shapes are never guessed.

use std::{
    borrow::Cow,
    sync::{Arc, RwLock},
};

use base64::{Engine, engine::general_purpose};
use zeroize::Zeroizing;

/// What stands where a secret stood.
const MASK: &str = "[redacted]";
/// Shorter values would redact half of every text.
const SECRET_BYTES_MIN: usize = 8;

/// The registered secrets. Clones share them.
#[derive(Clone, Default)]
pub struct Redactor {
    needles: Arc<RwLock<Vec<Zeroizing<String>>>>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor(…)")
    }
}

impl Redactor {
    /// Registers a secret value: from now on it, its base64 (both alphabets), hex and percent
    /// encodings are masked. Values under eight bytes are ignored.
    pub fn register(&self, secret: &str) {
        if secret.len() < SECRET_BYTES_MIN {
            return;
        }
        let json = serde_json::to_string(secret).unwrap_or_default();
        let forms = [
            secret.to_owned(),
            general_purpose::STANDARD_NO_PAD.encode(secret),
            general_purpose::URL_SAFE_NO_PAD.encode(secret),
            data_encoding::HEXLOWER.encode(secret.as_bytes()),
            percent(secret),
            json.trim_matches('"').to_owned(),
        ];
        let mut needles = self.needles.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for form in forms {
            if !needles.iter().any(|n| **n == form) {
                needles.push(Zeroizing::new(form));
            }
        }
        // Longest first, so that a secret that contains another is masked whole.
        needles.sort_by_key(|n| std::cmp::Reverse(n.len()));
    }

    /// The text with every registered value masked.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = Cow::Borrowed(text);
        let needles = self.needles.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        for needle in needles.iter() {
            if out.contains(needle.as_str()) {
                out = Cow::Owned(out.replace(needle.as_str(), MASK));
            }
        }
        out
    }

    /// Whether the text holds a registered value.
    pub fn finds_secret(&self, text: &str) -> bool {
        let needles = self.needles.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        needles.iter().any(|n| text.contains(n.as_str()))
    }
}

fn percent(secret: &str) -> String {
    secret
        .bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_secret_and_its_encodings_are_masked() {
        let redactor = Redactor::default();
        redactor.register("s3cr3t/value+1");
        for text in [
            "key=s3cr3t/value+1",
            "key=s3cr3t%2Fvalue%2B1",
            "key=czNjcjN0L3ZhbHVlKzE=",
            "key=7333637233742f76616c75652b31",
        ] {
            assert!(redactor.finds_secret(text), "{text}");
            assert!(redactor.redact(text).starts_with("key=[redacted]"), "{text}");
        }
        assert_eq!(redactor.redact("nothing here"), "nothing here");
    }

    #[test]
    fn a_short_value_is_not_registered() {
        let redactor = Redactor::default();
        redactor.register("abc");
        assert_eq!(redactor.redact("abc"), "abc");
    }
}
