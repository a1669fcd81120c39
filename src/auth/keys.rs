//! The daemon's own keys: one master secret, a key per purpose.
//!
//! Invariants: the master secret never signs or seals anything itself; two purposes never share a
//! key, so that what one part signs means nothing to another.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::domain::Secret;

/// Least characters of the master secret (SECURITY.md).
pub const SECRET_CHARS_MIN: usize = 32;
/// Bytes of a key: what HMAC-SHA256 and AES-256 take.
pub const KEY_BYTES: usize = 32;
/// Bytes of a key's id: enough to tell keys apart, and of no use to find one.
const KEY_ID_BYTES: usize = 8;
/// Separates our derivations from anybody else's of the same secret.
const SALT: &[u8] = b"agent-runtime keys v1";

/// What a key is for. Each has a label that never changes, since what is stored depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Signs capabilities.
    Capability,
    /// Signs checkpoints of the audit trail.
    Checkpoint,
    /// Seals stored secrets.
    Sealing,
    /// Signs backups.
    Backup,
    /// Fingerprints of secrets, to see that one has changed.
    Fingerprint,
    /// Shows that two replicas have the same secret.
    Cluster,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Capability => b"capability",
            Self::Checkpoint => b"audit checkpoint",
            Self::Sealing => b"sealed secret",
            Self::Backup => b"backup",
            Self::Fingerprint => b"secret fingerprint",
            Self::Cluster => b"cluster",
        }
    }
}

/// The master secret was no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the permission secret must have at least 32 characters; `agent-runtime init` makes one")]
pub struct WeakSecret;

/// Gives a key for each purpose.
#[derive(Clone)]
pub struct Keys {
    extracted: Hkdf<Sha256>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

impl Keys {
    /// Keys from the permission secret.
    ///
    /// # Errors
    /// When it has less than [`SECRET_CHARS_MIN`] characters.
    pub fn new(master: &Secret<String>) -> Result<Self, WeakSecret> {
        let master = master.expose();
        if master.chars().count() < SECRET_CHARS_MIN {
            return Err(WeakSecret);
        }
        Ok(Self { extracted: Hkdf::new(Some(SALT), master.as_bytes()) })
    }

    /// The key for a purpose: HKDF-SHA256 (RFC 5869) over the master secret.
    pub fn key(&self, purpose: Purpose) -> Key {
        let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
        // Fails only for more than 255 blocks; zeros would then be a key that verifies nothing
        // that was signed, and is never reached.
        self.extracted.expand(purpose.label(), bytes.as_mut()).unwrap_or_default();
        Key { bytes }
    }
}

/// One key.
#[derive(Clone)]
pub struct Key {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

impl Key {
    /// The bytes, for a cipher.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }

    /// Tells keys apart without giving one away: the first bytes of a MAC, as hex.
    pub fn id(&self) -> String {
        let mac = self.mac(b"key id");
        data_encoding::HEXLOWER.encode(mac.get(..KEY_ID_BYTES).unwrap_or(&mac))
    }

    /// HMAC-SHA256 (RFC 2104) over the message.
    pub fn mac(&self, message: &[u8]) -> [u8; KEY_BYTES] {
        self.hmac(message).finalize().into_bytes().into()
    }

    /// Whether `mac` is this key's over the message; takes the same time for every wrong one.
    pub fn verifies(&self, message: &[u8], mac: &[u8]) -> bool {
        self.hmac(message).verify_slice(mac).is_ok()
    }

    fn hmac(&self, message: &[u8]) -> Hmac<Sha256> {
        // A key of a block's length or less is taken as it is: this is RFC 2104's own padding, which
        // cannot fail.
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        for (to, from) in block.iter_mut().zip(self.bytes.iter()) {
            *to = *from;
        }
        let mut mac = Hmac::new(&block);
        mac.update(message);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Keys {
        Keys::new(&Secret::new(text.to_owned())).unwrap()
    }

    #[test]
    fn each_purpose_and_each_secret_has_its_own_key() {
        let (one, two) = (keys(&"a".repeat(32)), keys(&"b".repeat(32)));
        let all = [
            Purpose::Capability,
            Purpose::Checkpoint,
            Purpose::Sealing,
            Purpose::Backup,
            Purpose::Fingerprint,
        ];
        let ids: std::collections::BTreeSet<String> =
            all.iter().flat_map(|p| [one.key(*p).id(), two.key(*p).id()]).collect();
        assert_eq!(ids.len(), 2 * all.len());
        assert_eq!(
            one.key(Purpose::Sealing).id(),
            keys(&"a".repeat(32)).key(Purpose::Sealing).id()
        );
    }

    #[test]
    fn a_mac_is_rfc_2104_and_holds_for_its_message_alone() {
        // RFC 4231, test case 1: a key of 20 bytes; padding with zeros to 32 changes nothing.
        let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
        bytes[..20].fill(0x0b);
        let key = Key { bytes };
        let mac = key.mac(b"Hi There");
        assert_eq!(
            data_encoding::HEXLOWER.encode(&mac),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert!(key.verifies(b"Hi There", &mac));
        assert!(!key.verifies(b"Hi there", &mac) && !key.verifies(b"Hi There", &mac[..31]));
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert_eq!(Keys::new(&Secret::new("x".repeat(31))).unwrap_err(), WeakSecret);
    }
}
