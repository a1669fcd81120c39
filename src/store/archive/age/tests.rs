//! What opens and what does not.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::Path,
};

use sha2::{Digest, Sha256};

use super::*;

fn sealed(recipients: &[Recipient], text: &[u8]) -> Vec<u8> {
    let mut sealer = Sealer::new(Vec::new(), recipients).unwrap();
    sealer.write_all(text).unwrap();
    sealer.finish().unwrap()
}

fn opened(file: &[u8], identity: &Identity) -> Result<Vec<u8>, String> {
    let mut opener = Opener::new(file, identity).map_err(|e| e.to_string())?;
    let mut text = Vec::new();
    opener.read_to_end(&mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

#[test]
fn each_recipient_opens_it_whatever_its_length_and_nobody_else_does() {
    let [one, two, other] = [(); 3].map(|()| Identity::generate().unwrap());
    for length in [0, 1, 65_535, 65_536, 65_537, 200_000] {
        let text: Vec<u8> = (0..length).map(|n: usize| u8::try_from(n % 251).unwrap()).collect();
        let file = sealed(&[one.recipient(), two.recipient()], &text);
        assert!(stream::shape(file.as_slice(), file.len() as u64).unwrap().recipients == 2);
        assert_eq!(opened(&file, &one).as_deref(), Ok(text.as_slice()), "{length}");
        assert_eq!(opened(&file, &two).as_deref(), Ok(text.as_slice()), "{length}");
        assert_eq!(opened(&file, &other), Err(AgeError::OtherKey.to_string()));
    }
    assert!(matches!(Sealer::new(Vec::new(), &[]), Err(AgeError::NoRecipient)));
}

#[test]
fn what_was_changed_cut_or_continued_anywhere_does_not_open() {
    let identity = Identity::generate().unwrap();
    let file = sealed(&[identity.recipient()], &vec![7; 70_000]);
    for at in (0..file.len()).step_by(97).chain(0..300).chain([file.len() - 1]) {
        let mut changed = file.clone();
        changed[at] ^= 1;
        assert!(opened(&changed, &identity).is_err(), "byte {at} can be changed");
    }
    for length in [0, 10, 200, file.len() - 4_480, 65_536 + 232, file.len() - 1] {
        assert!(opened(&file[..length], &identity).is_err(), "it can be cut to {length}");
    }
    let more = [file.as_slice(), b"x"].concat();
    assert!(opened(&more, &identity).is_err(), "it can be continued");
}

#[test]
fn keys_come_back_from_their_text_and_other_text_is_refused() {
    // The example key pair of the age documentation's test kit.
    let text = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    let identity = Identity::parse(&Secret::new(format!("# made today\n{text}\n"))).unwrap();
    assert_eq!(identity.expose().expose(), text);
    let recipient = identity.recipient().to_string();
    assert_eq!(recipient, "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj");
    assert_eq!(recipient.parse::<Recipient>().unwrap(), identity.recipient());
    for wrong in
        ["", "age1", "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwk", text]
    {
        assert!(wrong.parse::<Recipient>().is_err(), "{wrong}");
        let swapped = Identity::parse(&Secret::new(recipient.clone()));
        assert!(swapped.is_err(), "a public key is taken for a secret one");
    }
}

#[test]
fn parts_that_were_swapped_left_out_or_doubled_do_not_open() {
    const SEALED: usize = 65_536 + 16;
    let identity = Identity::generate().unwrap();
    let text: Vec<u8> =
        (0..4 * 65_536 + 10).map(|n: usize| u8::try_from(n % 251).unwrap()).collect();
    let file = sealed(&[identity.recipient()], &text);
    let head = file.len() - 4 * SEALED - 26;
    let part = |n: usize| &file[head + n * SEALED..(head + (n + 1) * SEALED).min(file.len())];
    let put = |parts: &[usize]| {
        let parts: Vec<&[u8]> = parts.iter().map(|n| part(*n)).collect();
        [&file[..head], &parts.concat()].concat()
    };
    assert_eq!(opened(&put(&[0, 1, 2, 3, 4]), &identity).as_deref(), Ok(text.as_slice()));
    for parts in [
        [1, 0, 2, 3, 4].as_slice(),
        &[0, 2, 1, 3, 4],
        &[0, 1, 3, 2, 4],
        &[0, 1, 2, 4, 3],
        &[0, 2, 3, 4],
        &[0, 1, 2, 3],
        &[0, 1, 1, 2, 3, 4],
        &[0, 1, 2, 3, 4, 4],
        &[1, 2, 3, 4],
        &[4],
        &[],
    ] {
        assert!(opened(&put(parts), &identity).is_err(), "{parts:?}");
    }
    // Parts of another file for the same recipient.
    let other = sealed(&[identity.recipient()], &text);
    let mixed = [&file[..head + SEALED], &other[head + SEALED..]].concat();
    assert!(opened(&mixed, &identity).is_err());
}

#[test]
fn no_bit_of_a_file_can_be_changed() {
    let identity = Identity::generate().unwrap();
    let file = sealed(&[identity.recipient()], b"a short text");
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut changed = file.clone();
            changed[at] ^= 1 << bit;
            assert!(opened(&changed, &identity).is_err(), "bit {bit} of byte {at}");
        }
        assert!(opened(&file[..at], &identity).is_err(), "it can be cut to {at}");
    }
}

/// A disk with room for so many bytes.
struct Small(Vec<u8>, usize);

impl Write for Small {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = bytes.len().min(self.1 - self.0.len());
        if taken == 0 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn after_an_error_nothing_more_is_sealed_and_nobody_panics() {
    let identity = Identity::generate().unwrap();
    for room in [1_000, 70_000, 140_000] {
        let mut sealer = Sealer::new(Small(Vec::new(), room), &[identity.recipient()]).unwrap();
        let error = sealer.write_all(&vec![7; 400_000]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        // Whoever goes on all the same, as destructors do, and finds room again.
        sealer.to.1 = usize::MAX;
        for bytes in [1, 65_536, 200_000] {
            assert!(sealer.write_all(&vec![9; bytes]).is_err());
        }
        assert_eq!(sealer.to.0.len(), room, "something was sealed under a number that was used");
        assert!(sealer.finish().is_err());
    }
}

/// What a vector says must happen.
struct Vector {
    says: BTreeMap<String, String>,
    file: Vec<u8>,
}

fn vector(path: &Path) -> Vector {
    let whole = fs::read(path).unwrap();
    let end = whole.windows(2).position(|two| two == b"\n\n").unwrap();
    let says = std::str::from_utf8(&whole[..end]).unwrap().lines();
    let says = says.map(|line| line.split_once(": ").unwrap());
    let says: BTreeMap<String, String> =
        says.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let mut file = whole[end + 2..].to_vec();
    if let Some(how) = says.get("compressed") {
        assert_eq!(how, "zlib");
        let packed = std::mem::take(&mut file);
        flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_end(&mut file).unwrap();
    }
    Vector { says, file }
}

/// What happens, in the words of the vectors, and everything that was given before.
fn happens(file: &[u8], identity: &Identity) -> (&'static str, Vec<u8>) {
    let mut text = Vec::new();
    match Opener::new(file, identity) {
        Err(AgeError::OtherKey) => ("no match", text),
        Err(AgeError::Changed("its head")) => ("HMAC failure", text),
        Err(_) => ("header failure", text),
        Ok(mut opener) => {
            if opener.read_to_end(&mut text).is_ok() {
                return ("success", text);
            }
            // Whoever asks again gets the error again, and nothing that was not sealed.
            assert!(opener.read(&mut [0; 64]).is_err());
            ("payload failure", text)
        }
    }
}

#[test]
fn every_vector_of_the_format_s_authors_opens_or_is_refused_as_they_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/archive/age/testkit");
    let mut seen = BTreeMap::<String, usize>::new();
    let mut wrong = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some() {
            continue;
        }
        let Vector { says, file } = vector(&path);
        let identity = says.get("identity").cloned().map(Secret::new);
        let identity = identity.map_or_else(Identity::generate, |text| Identity::parse(&text));
        let (found, text) = happens(&file, &identity.unwrap());
        let name = path.file_name().unwrap().to_str().unwrap();
        if found != says["expect"] {
            wrong.push(format!("{name}: {found}, not {}", says["expect"]));
        }
        // What was given before a failure counts too.
        let sum = data_encoding::HEXLOWER.encode(&Sha256::digest(&text));
        if says.get("payload").is_some_and(|payload| *payload != sum) {
            wrong.push(format!("{name}: another text of {} bytes", text.len()));
        }
        *seen.entry(says["expect"].clone()).or_default() += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let seen: Vec<(&str, usize)> = seen.iter().map(|(k, n)| (k.as_str(), *n)).collect();
    let expected = [
        ("HMAC failure", 1),
        ("header failure", 32),
        ("no match", 3),
        ("payload failure", 18),
        ("success", 14),
    ];
    assert_eq!(seen, expected, "a vector is missing");
}
