//! Files that only the holder of a key can read: the age format, version 1
//! (<https://age-encryption.org/v1>), with X25519 recipients. The `age` program of others opens what
//! is written here, and the other way round.
//!
//! Invariants: who writes needs the public half alone; each file has a key of its own; a file that
//! was changed, cut or continued anywhere does not open past the place.

mod header;
mod stream;

use curve25519_dalek::montgomery::MontgomeryPoint;
use std::{fmt, str::FromStr};
use zeroize::Zeroizing;

use crate::domain::Secret;
use bech32::{Bech32, Hrp, primitives::decode::CheckedHrpstring};

pub use header::Shape;
pub use stream::{Opener, Sealer, shape};

/// Bytes of a point and of a scalar (RFC 7748).
const KEY_BYTES: usize = 32;
/// What a recipient's text begins with.
const RECIPIENT: Hrp = Hrp::parse_unchecked("age");
/// What an identity's text begins with, in upper case.
const IDENTITY: Hrp = Hrp::parse_unchecked("age-secret-key-");

/// Why a file was not sealed or opened, or a key not read.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    /// The text is no recipient.
    #[error("is not a public key of the form age1…; `agent-runtime backup keygen` makes one")]
    Recipient,
    /// The text is no identity.
    #[error("is not a secret key of the form AGE-SECRET-KEY-1…")]
    Identity,
    /// There is no randomness.
    #[error("no randomness for a key")]
    Random,
    /// Nobody could open the file.
    #[error("a file needs at least one recipient")]
    NoRecipient,
    /// The file is none of this format.
    #[error("this is not an age file: {0}")]
    NotAge(&'static str),
    /// None of the identities opens it.
    #[error("this key does not open the file: it was made for another recipient")]
    OtherKey,
    /// The file was changed or cut.
    #[error("the file was changed or cut off: {0}")]
    Changed(&'static str),
    /// It cannot be read or written.
    #[error("the file cannot be read or written")]
    Io(#[from] std::io::Error),
}

/// The public half: whoever has it can write files for its owner, and read none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Recipient(MontgomeryPoint);

impl Recipient {
    const fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.0.as_bytes()
    }
}

impl FromStr for Recipient {
    type Err = AgeError;

    fn from_str(text: &str) -> Result<Self, AgeError> {
        let bytes = decode(text, RECIPIENT).ok_or(AgeError::Recipient)?;
        Ok(Self(MontgomeryPoint(*bytes)))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bech32::encode::<Bech32>(RECIPIENT, self.bytes()).unwrap_or_default())
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

/// The secret half: it opens what was written for its recipient. The daemon never has it.
#[derive(Clone)]
pub struct Identity(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate() -> Result<Self, AgeError> {
        Ok(Self(random()?))
    }

    /// Reads the first identity of a file's text, where lines that begin with `#` say something
    /// about it.
    ///
    /// # Errors
    /// When there is none.
    pub fn parse(text: &Secret<String>) -> Result<Self, AgeError> {
        let lines = text.expose().lines().map(str::trim);
        let line = lines.into_iter().find(|l| !l.is_empty() && !l.starts_with('#'));
        line.and_then(|line| decode(line, IDENTITY)).map(Self).ok_or(AgeError::Identity)
    }

    /// Its text.
    pub fn expose(&self) -> Secret<String> {
        let text = bech32::encode_upper::<Bech32>(IDENTITY, self.0.as_ref());
        Secret::new(text.unwrap_or_default())
    }

    /// Who writes for it.
    pub fn recipient(&self) -> Recipient {
        Recipient(MontgomeryPoint::mul_base_clamped(*self.0))
    }

    /// X25519 (RFC 7748); none for a point that gives the same secret to everybody.
    fn shared(&self, with: &MontgomeryPoint) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
        let shared = Zeroizing::new(with.mul_clamped(*self.0).to_bytes());
        (*shared != [0; KEY_BYTES]).then_some(shared)
    }
}

fn decode(text: &str, wanted: Hrp) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let checked = CheckedHrpstring::new::<Bech32>(text.trim()).ok()?;
    if checked.hrp() != wanted {
        return None;
    }
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    let mut found = checked.byte_iter();
    for to in bytes.iter_mut() {
        *to = found.next()?;
    }
    found.next().is_none().then_some(bytes)
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, AgeError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut()).ok().ok_or(AgeError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
