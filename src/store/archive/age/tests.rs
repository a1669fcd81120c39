//! What opens and what does not.

use std::io::{Read, Write};

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
