//! Secrets at rest: AES-256-GCM under a key that is made for this alone.
//!
//! Invariants: each sealing has a fresh random nonce; what was sealed under one name does not open
//! under another; nothing opens that was changed.

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::keys::Key;
use crate::domain::{Secret, SecretName};

/// Bytes of a nonce (NIST SP 800-38D): random ones do not repeat before 2^32 sealings of a key.
const NONCE_BYTES: usize = 12;
/// Bound to each ciphertext before the name.
const LABEL: &str = "agent-runtime sealed secret v1\n";

/// Why a secret was not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is no randomness.
    #[error("no randomness for a nonce")]
    Random,
    /// It was not sealed with this key under this name, or was changed since.
    #[error("it was not sealed with this key under this name, or was changed")]
    NotOurs,
    /// None of the keys sealed it.
    #[error("it was sealed with another permission secret; name that one as the previous one")]
    OtherKey,
}

/// Seals a value under a name; base64 of the nonce and the ciphertext.
///
/// # Errors
/// When there is no randomness.
pub fn seal(key: &Key, name: &SecretName, value: &Secret<String>) -> Result<String, SealError> {
    let mut nonce = [0_u8; NONCE_BYTES];
    getrandom::fill(&mut nonce).ok().ok_or(SealError::Random)?;
    let aad = aad(name);
    let payload = Payload { msg: value.expose().as_bytes(), aad: &aad };
    let cipher = Aes256Gcm::new(key.expose().into());
    let sealed = cipher.encrypt(&Nonce::from(nonce), payload).ok().ok_or(SealError::NotOurs)?;
    Ok(BASE64.encode(&[nonce.as_slice(), &sealed].concat()))
}

/// Opens what [`seal`] made, with the key of this id.
///
/// # Errors
/// When there is no such key, or the text is not what was sealed under this name.
pub fn open(
    keys: &[Key],
    key_id: &str,
    name: &SecretName,
    sealed: &str,
) -> Result<Secret<String>, SealError> {
    let key = keys.iter().find(|key| key.id() == key_id).ok_or(SealError::OtherKey)?;
    let bytes = BASE64.decode(sealed.as_bytes()).ok().ok_or(SealError::NotOurs)?;
    let (nonce, sealed) = bytes.split_first_chunk().ok_or(SealError::NotOurs)?;
    let aad = aad(name);
    let payload = Payload { msg: sealed, aad: &aad };
    let nonce: &[u8; NONCE_BYTES] = nonce;
    let value = Aes256Gcm::new(key.expose().into()).decrypt(&Nonce::from(*nonce), payload);
    let value = Zeroizing::new(value.ok().ok_or(SealError::NotOurs)?);
    let text = std::str::from_utf8(&value).ok().ok_or(SealError::NotOurs)?;
    Ok(Secret::new(text.to_owned()))
}

fn aad(name: &SecretName) -> Vec<u8> {
    format!("{LABEL}{name}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keys::{Keys, Purpose};

    fn key(text: &str) -> Key {
        Keys::new(&Secret::new(text.repeat(32))).unwrap().key(Purpose::Sealing)
    }

    #[test]
    fn what_was_sealed_opens_under_its_name_and_key_alone() {
        let (one, two) = (key("a"), key("b"));
        let (name, other): (SecretName, SecretName) = ("A".parse().unwrap(), "B".parse().unwrap());
        let value = Secret::new("the value".to_owned());
        let sealed = seal(&one, &name, &value).unwrap();
        assert!(!sealed.contains("value"));
        assert_ne!(sealed, seal(&one, &name, &value).unwrap(), "a nonce was used twice");
        let keys = [two.clone(), one.clone()];
        assert_eq!(open(&keys, &one.id(), &name, &sealed).unwrap().expose(), "the value");
        assert_eq!(open(&keys, &one.id(), &other, &sealed).unwrap_err(), SealError::NotOurs);
        assert_eq!(open(&keys, &two.id(), &name, &sealed).unwrap_err(), SealError::NotOurs);
        assert_eq!(open(&keys[..1], &one.id(), &name, &sealed).unwrap_err(), SealError::OtherKey);
        let mut bytes = BASE64.decode(sealed.as_bytes()).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            let changed = BASE64.encode(&bytes);
            assert_eq!(open(&keys, &one.id(), &name, &changed).unwrap_err(), SealError::NotOurs);
            bytes[at] ^= 1;
        }
        assert_eq!(open(&keys, &one.id(), &name, "AAAA").unwrap_err(), SealError::NotOurs);
    }
}
