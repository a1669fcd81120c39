//! The head of a file: for whom it is, and under which key.

use std::io::{self, BufRead};

use curve25519_dalek::montgomery::MontgomeryPoint;
use data_encoding::BASE64_NOPAD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{AgeError, Identity, KEY_BYTES, Recipient, random};

const VERSION: &str = "age-encryption.org/v1";
const X25519: &str = "X25519";
const PASSPHRASE: &str = "scrypt";
const X25519_LABEL: &[u8] = b"age-encryption.org/v1/X25519";
const MAC_MARK: &str = "---";
/// Bytes of the key of a file.
pub(super) const FILE_KEY_BYTES: usize = 16;
/// Bytes that sealing it adds.
const TAG_BYTES: usize = 16;
/// Characters of a full line of a stanza's body.
const LINE: usize = 64;
/// Longest line that is read: arguments of other programs' stanzas are no longer.
const LINE_MAX: u64 = 8 << 10;
/// Stanzas of a file at most.
const STANZAS_MAX: usize = 64;

/// What the head says to everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Shape {
    /// X25519 recipients that the file is for.
    pub recipients: usize,
    /// Its bytes.
    pub header_bytes: u64,
}

/// A key from others.
pub(super) fn derive(secret: &[u8], salt: &[u8], label: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    // Fails only for more than 255 blocks.
    Hkdf::<Sha256>::new(Some(salt), secret).expand(label, key.as_mut()).unwrap_or_default();
    key
}

/// The cipher for a key.
pub(super) fn cipher(key: &[u8; KEY_BYTES]) -> Result<LessSafeKey, AgeError> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key);
    key.map(LessSafeKey::new).ok().ok_or(AgeError::Changed("a key of the wrong length"))
}

/// The head of a new file, and the file's key.
pub(super) fn write(
    recipients: &[Recipient],
) -> Result<(String, Zeroizing<[u8; FILE_KEY_BYTES]>), AgeError> {
    if recipients.is_empty() {
        return Err(AgeError::NoRecipient);
    }
    let file_key: Zeroizing<[u8; FILE_KEY_BYTES]> = random()?;
    let mut head = format!("{VERSION}\n");
    for recipient in recipients {
        let own = Identity::generate()?;
        let share = own.recipient();
        let shared = own.shared(&recipient.0).ok_or(AgeError::Recipient)?;
        let key = wrapping_key(&shared, share.bytes(), recipient);
        let mut body = file_key.to_vec();
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let sealed = cipher(&key)?.seal_in_place_append_tag(nonce, Aad::empty(), &mut body);
        sealed.ok().ok_or(AgeError::Changed("it could not be sealed"))?;
        let (share, body) = (BASE64_NOPAD.encode(share.bytes()), BASE64_NOPAD.encode(&body));
        head.extend(["-> ", X25519, " ", &share, "\n", &body, "\n"]);
    }
    head += MAC_MARK;
    let mac = mac(&file_key, head.as_bytes()).finalize().into_bytes();
    head.extend([" ", &BASE64_NOPAD.encode(&mac), "\n"]);
    Ok((head, file_key))
}

fn wrapping_key(
    shared: &[u8; KEY_BYTES],
    share: &[u8; KEY_BYTES],
    recipient: &Recipient,
) -> Zeroizing<[u8; KEY_BYTES]> {
    let salt = [share.as_slice(), recipient.bytes()].concat();
    derive(shared, &salt, X25519_LABEL)
}

/// The file's key, where this key sealed it.
fn unwrapped(key: &[u8; KEY_BYTES], body: &[u8]) -> Option<Zeroizing<[u8; FILE_KEY_BYTES]>> {
    let mut body = Zeroizing::new(body.to_vec());
    let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
    let opened = cipher(key).ok()?.open_in_place(nonce, Aad::empty(), &mut body).ok()?;
    Some(Zeroizing::new(<[u8; FILE_KEY_BYTES]>::try_from(&*opened).ok()?))
}

fn mac(file_key: &[u8; FILE_KEY_BYTES], head: &[u8]) -> Hmac<Sha256> {
    let key = derive(file_key, b"", b"header");
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    for (to, from) in block.iter_mut().zip(key.iter()) {
        *to = *from;
    }
    let mut mac = Hmac::new(&block);
    mac.update(head);
    mac
}

/// One recipient's part: the share and the sealed key of the file.
struct Stanza {
    share: [u8; KEY_BYTES],
    body: Vec<u8>,
}

impl Stanza {
    fn of(arguments: &[&str], body: Vec<u8>) -> Result<Self, AgeError> {
        let share = match arguments {
            [share] => decoded(share).and_then(|share| share.try_into().ok()),
            _ => None,
        };
        let share = share.filter(|_| body.len() == FILE_KEY_BYTES + TAG_BYTES);
        share
            .map(|share| Self { share, body })
            .ok_or(AgeError::NotAge("a recipient's part is damaged"))
    }
}

/// Base64 without padding, in its one spelling.
fn decoded(text: &str) -> Option<Vec<u8>> {
    BASE64_NOPAD.decode(text.as_bytes()).ok()
}

/// The head of a file that is there.
pub(super) struct Head {
    stanzas: Vec<Stanza>,
    /// What the MAC covers.
    covered: Vec<u8>,
    mac: Vec<u8>,
    bytes: u64,
}

impl Head {
    /// Reads it as strictly as the format's specification asks: whatever has two spellings is
    /// refused, so that there is one way alone to write a head.
    pub(super) fn read(from: &mut impl BufRead) -> Result<Self, AgeError> {
        let mut head = Self { stanzas: Vec::new(), covered: Vec::new(), mac: Vec::new(), bytes: 0 };
        if head.line(from)? != VERSION {
            return Err(AgeError::NotAge("it begins otherwise"));
        }
        head.cover(VERSION);
        let (mut count, mut has_passphrase) = (0, false);
        loop {
            let line = head.line(from)?;
            if let Some(mac) = line.strip_prefix(MAC_MARK) {
                head.covered.extend_from_slice(MAC_MARK.as_bytes());
                let mac = mac.strip_prefix(' ').and_then(decoded);
                let mac = mac.filter(|mac| mac.len() == KEY_BYTES);
                head.mac = mac.ok_or(AgeError::NotAge("its head has no end"))?;
                if count == 0 || (has_passphrase && count > 1) {
                    return Err(AgeError::NotAge("its head names the wrong recipients"));
                }
                return Ok(head);
            }
            count += 1;
            let arguments = line.strip_prefix("-> ").filter(|_| count <= STANZAS_MAX);
            let arguments = arguments.ok_or(AgeError::NotAge("its head names no recipient"))?;
            let arguments: Vec<&str> = arguments.split(' ').collect();
            let is_word =
                |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic());
            if !arguments.iter().all(is_word) {
                return Err(AgeError::NotAge("a recipient's part is damaged"));
            }
            head.cover(&line);
            let body = head.body(from)?;
            has_passphrase |= arguments.first() == Some(&PASSPHRASE);
            // What others have written for other kinds of keys is passed over.
            if let Some((&X25519, share)) = arguments.split_first() {
                head.stanzas.push(Stanza::of(share, body)?);
            }
        }
    }

    fn cover(&mut self, line: &str) {
        self.covered.extend_from_slice(line.as_bytes());
        self.covered.push(b'\n');
    }

    /// The lines of a body: full ones, then one that is not.
    fn body(&mut self, from: &mut impl BufRead) -> Result<Vec<u8>, AgeError> {
        let mut body = String::new();
        loop {
            let line = self.line(from)?;
            if line.len() > LINE {
                return Err(AgeError::NotAge("a line of its head is too long"));
            }
            self.cover(&line);
            body += &line;
            if line.len() < LINE {
                return decoded(&body).ok_or(AgeError::NotAge("a recipient's part is damaged"));
            }
        }
    }

    fn line(&mut self, from: &mut impl BufRead) -> Result<String, AgeError> {
        let mut line = Vec::new();
        let read = io::Read::take(&mut *from, LINE_MAX).read_until(b'\n', &mut line)?;
        self.bytes += read as u64;
        let not_age = || AgeError::NotAge("its head is no text");
        if line.pop() != Some(b'\n') {
            return Err(not_age());
        }
        String::from_utf8(line).ok().ok_or_else(not_age)
    }

    pub(super) fn shape(&self) -> Shape {
        Shape { recipients: self.stanzas.len(), header_bytes: self.bytes }
    }

    /// The key of the file.
    pub(super) fn file_key(
        &self,
        identity: &Identity,
    ) -> Result<Zeroizing<[u8; FILE_KEY_BYTES]>, AgeError> {
        let recipient = identity.recipient();
        let mut opened = None;
        for stanza in &self.stanzas {
            let shared = identity.shared(&MontgomeryPoint(stanza.share));
            let shared = shared.ok_or(AgeError::NotAge("a recipient's part opens to all"))?;
            let key = wrapping_key(&shared, &stanza.share, &recipient);
            opened = opened.or_else(|| unwrapped(&key, &stanza.body));
        }
        let file_key = opened.ok_or(AgeError::OtherKey)?;
        let is_ours = mac(&file_key, &self.covered).verify_slice(&self.mac).is_ok();
        is_ours.then_some(file_key).ok_or(AgeError::Changed("its head"))
    }
}
