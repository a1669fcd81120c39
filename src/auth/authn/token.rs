//! Bearer tokens: `art_<id>_<secret>`, or an opaque text from the configuration.
//!
//! Only SHA-256 of a token is kept. A plain fast hash is right here: generated tokens carry 256
//! random bits, so there is nothing to slow a guesser down for.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Builder;

use crate::domain::{PrincipalId, Role, Secret};

/// Random bytes in the secret part of a generated token.
const SECRET_BYTES: usize = 32;
/// Random bytes in its id.
const ID_BYTES: usize = 8;
/// Longer texts are no tokens; bounds the work of hashing a presented one.
pub(super) const TOKEN_BYTES_MAX: usize = 512;

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
pub struct TokenHash(pub(super) [u8; 32]);

impl TokenHash {
    /// The hash of a presented token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// As it is stored: hex.
    pub fn to_hex(self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }

    /// From what is stored; none when that is no hash.
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
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
}
