//! Bearer tokens: `art_<id>_<secret>`, or an opaque text from the configuration.
//!
//! Only SHA-256 of a token is kept. A plain fast hash is right here: generated tokens carry 256
//! random bits, so there is nothing to slow a guesser down for.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tokio::sync::watch;
use uuid::Builder;

use crate::domain::{Principal, PrincipalId, Role, Secret};

/// Random bytes in the secret part of a generated token.
const SECRET_BYTES: usize = 32;
/// Random bytes in its id.
const ID_BYTES: usize = 8;
/// Longer texts are no tokens; bounds the work of hashing a presented one.
const TOKEN_BYTES_MAX: usize = 512;

/// A token as configured: whom it stands for and what it is.
#[derive(Clone, Debug)]
pub struct TokenEntry {
    /// Whom it stands for; see [`principal_id_of`].
    pub principal: PrincipalId,
    /// What people call them.
    pub name: String,
    /// Their standing.
    pub role: Role,
    /// The token itself; forgotten once it is hashed.
    pub token: Secret<String>,
}

/// SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// Somebody who presented a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Who.
    pub principal: Principal,
    /// By which token: long-lived connections ask again whether it still stands.
    pub token: TokenHash,
}

/// The tokens in force, as hashes. Clones share them, so that a reload reaches everybody.
#[derive(Clone)]
pub struct TokenTable {
    entries: Arc<RwLock<Arc<[Known]>>>,
    changed: Arc<watch::Sender<u64>>,
}

#[derive(Clone)]
struct Known {
    hash: TokenHash,
    principal: Principal,
}

impl fmt::Debug for TokenTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenTable").field("tokens", &self.known().len()).finish()
    }
}

impl TokenTable {
    /// Hashes the tokens and forgets them.
    pub fn new(entries: Vec<TokenEntry>) -> Self {
        Self {
            entries: Arc::new(RwLock::new(hashed(entries))),
            changed: Arc::new(watch::channel(0).0),
        }
    }

    /// Puts other tokens in force, and wakes whoever watches: connections whose token is gone or
    /// whose role changed are closed.
    pub fn replace(&self, entries: Vec<TokenEntry>) {
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = hashed(entries);
        self.changed.send_modify(|generation| *generation = generation.wrapping_add(1));
    }

    /// Wakes at each [`TokenTable::replace`].
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Who presents this token. Takes the same time whether and which entry matches.
    pub fn verify(&self, presented: &str) -> Option<Verified> {
        if presented.is_empty() || presented.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let token = TokenHash::of(presented);
        self.current(&token).map(|principal| Verified { principal, token })
    }

    /// Whom a token that was valid before stands for now.
    pub fn current(&self, token: &TokenHash) -> Option<Principal> {
        let known = self.known();
        let (mut found, mut index) = (Choice::from(0), 0_u64);
        for (n, entry) in (0_u64..).zip(known.iter()) {
            let is_equal = entry.hash.0.ct_eq(&token.0);
            index.conditional_assign(&n, is_equal & !found);
            found |= is_equal;
        }
        if !bool::from(found) {
            return None;
        }
        known.get(usize::try_from(index).ok()?).map(|entry| entry.principal.clone())
    }

    fn known(&self) -> Arc<[Known]> {
        Arc::clone(&self.entries.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn hashed(entries: Vec<TokenEntry>) -> Arc<[Known]> {
    let hash = |e: TokenEntry| Known {
        hash: TokenHash::of(e.token.expose()),
        principal: Principal { id: e.principal, name: e.name, role: e.role },
    };
    // An empty token would be matched by nobody's mistake but ours.
    entries.into_iter().filter(|e| !e.token.expose().is_empty()).map(hash).collect()
}

/// The id part of a token, which may be logged and counted. None for opaque tokens.
pub fn token_id(token: &str) -> Option<&str> {
    let (id, secret) = token.strip_prefix("art_")?.split_once('_')?;
    let is_id = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    (is_id && !secret.is_empty()).then_some(id)
}

/// The id of a principal that is known only by name: the same in every start, since runs and
/// audit rows refer to it. A UUIDv8 over SHA-256 of the name.
pub fn principal_id_of(name: &str) -> PrincipalId {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(b"agent-runtime principal\0")
        .chain_update(name.as_bytes())
        .finalize()
        .into();
    let mut bytes = [0_u8; 16];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = from;
    }
    PrincipalId::from(Builder::from_custom_bytes(bytes).into_uuid())
}

/// Randomness could not be had.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no randomness, so no token can be made")]
pub struct TokenError {
    source: getrandom::Error,
}

/// Makes a new token `art_<id>_<secret>`: 64 random bits of id, 256 of secret.
///
/// # Errors
/// When the system gives no randomness.
pub fn generate() -> Result<Secret<String>, TokenError> {
    let (mut id, mut secret) = ([0_u8; ID_BYTES], [0_u8; SECRET_BYTES]);
    getrandom::fill(&mut id).map_err(|source| TokenError { source })?;
    getrandom::fill(&mut secret).map_err(|source| TokenError { source })?;
    Ok(Secret::new(written(&id, &secret)))
}

/// Base32 in lower case, without padding: survives a double click, a URL and a shell.
fn written(id: &[u8], secret: &[u8]) -> String {
    let text = |bytes: &[u8]| data_encoding::BASE32_NOPAD.encode(bytes).to_ascii_lowercase();
    format!("art_{}_{}", text(id), text(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, role: Role, token: &str) -> TokenEntry {
        TokenEntry {
            principal: principal_id_of(name),
            name: name.to_owned(),
            role,
            token: Secret::new(token.to_owned()),
        }
    }

    #[test]
    fn only_the_exact_token_is_recognised() {
        let table = TokenTable::new(vec![
            entry("ann", Role::Admin, "art_a_111"),
            entry("bob", Role::Viewer, "opaque-and-long-enough"),
        ]);
        let who = |token: &str| table.verify(token).map(|v| (v.principal.name, v.principal.role));
        assert_eq!(who("art_a_111"), Some(("ann".to_owned(), Role::Admin)));
        assert_eq!(who("opaque-and-long-enough"), Some(("bob".to_owned(), Role::Viewer)));
        for wrong in ["", "art_a_112", "art_a_1111", "ART_A_111", "art_a_", " art_a_111", "opaque"]
        {
            assert_eq!(who(wrong), None, "{wrong}");
        }
        assert_eq!(who(&"x".repeat(100_000)), None);
    }

    #[test]
    fn an_empty_token_in_the_configuration_lets_nobody_in() {
        let table = TokenTable::new(vec![entry("ann", Role::Admin, "")]);
        assert_eq!(table.verify(""), None);
    }

    #[test]
    fn a_replaced_token_ends_at_once_and_watchers_hear_of_it() {
        let table = TokenTable::new(vec![entry("ann", Role::Admin, "first")]);
        let (shared, watcher) = (table.clone(), table.watch());
        let before = table.verify("first").unwrap();
        shared.replace(vec![entry("ann", Role::Viewer, "second")]);
        assert!(watcher.has_changed().unwrap());
        assert_eq!(table.current(&before.token), None);
        assert_eq!(table.verify("first"), None);
        let after = table.verify("second").unwrap().principal;
        assert_eq!((after.id, after.role), (before.principal.id, Role::Viewer));
    }

    #[test]
    fn a_generated_token_is_long_random_and_has_an_id() {
        let (one, two) = (generate().unwrap(), generate().unwrap());
        assert_ne!(one.expose(), two.expose());
        assert_eq!(one.expose().len(), "art_".len() + 13 + 1 + 52);
        assert_eq!(token_id(one.expose()).unwrap().len(), 13);
        assert_eq!(written(&[0; 8], &[255; 32]).split('_').count(), 3);
    }

    #[test]
    fn a_token_id_is_read_only_from_the_right_shape() {
        assert_eq!(token_id("art_abc_def_g"), Some("abc"));
        for none in ["art_abc", "art__def", "art_abc_", "abc", "art_a\nb_c", "opaque_a_b"] {
            assert_eq!(token_id(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_name_gives_the_same_principal_in_every_start() {
        assert_eq!(principal_id_of("ann"), principal_id_of("ann"));
        assert_ne!(principal_id_of("ann"), principal_id_of("bob"));
        assert!(principal_id_of("ann").to_string().starts_with("prn_"));
    }

    #[test]
    fn debug_shows_no_token() {
        let table = TokenTable::new(vec![entry("ann", Role::Admin, "art_a_111")]);
        assert_eq!(format!("{table:?}"), "TokenTable { tokens: 1 }");
    }
}
