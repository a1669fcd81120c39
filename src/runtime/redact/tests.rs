use proptest::prelude::*;

use super::*;

const SECRET: &str = "s3cr3t/value+1 \"&<'é";

fn knowing(secret: &str) -> Redactor {
    let redactor = Redactor::default();
    redactor.register(secret);
    redactor
}

#[test]
fn a_registered_secret_and_its_encodings_are_masked() {
    let redactor = knowing("s3cr3t/value+1");
    for text in [
        "key=s3cr3t/value+1",
        "key=s3cr3t%2Fvalue%2B1",
        "key=s3cr3t%2fvalue%2b1",
        "key=s3cr3t/value%2B1",
        "key=%73%33%63%72%33%74%2f%76%61%6c%75%65%2b%31",
        "key=czNjcjN0L3ZhbHVlKzE=",
        "key=7333637233742f76616c75652b31",
        "key=7333637233742F76616C75652B31",
    ] {
        assert!(redactor.finds_secret(text), "{text}");
        assert!(redactor.redact(text).starts_with("key=[redacted]"), "{text}");
    }
    let wide: Vec<String> = "s3cr3t/value+1".chars().map(String::from).collect();
    assert_eq!(redactor.redact(&format!("key={}", wide.join("\0"))), "key=[redacted]");
    assert_eq!(redactor.redact("nothing here"), "nothing here");
}

#[test]
fn base64_is_found_wherever_the_value_begins_in_it() {
    use base64::{Engine, engine::general_purpose};
    let redactor = knowing("a-token-of-some-length");
    for before in 0..9 {
        for after in 0..4 {
            let text = format!("{}a-token-of-some-length{}", "?".repeat(before), "~".repeat(after));
            let encoded =
                [general_purpose::STANDARD.encode(&text), general_purpose::URL_SAFE.encode(&text)];
            for text in encoded {
                assert!(redactor.finds_secret(&text), "{before} {after} {text}");
            }
        }
    }
}

#[test]
fn line_breaks_hide_nothing() {
    let redactor = knowing("a-token-of-some-length");
    let wrapped = "YS10b2tl\nbi1vZi1z\r\nb21lLWxl\nbmd0aA==\nnext line\n";
    assert_eq!(redactor.redact(wrapped), "[redacted]==\nnext line\n");
    assert_eq!(redactor.redact("x a-token-of\\n-some-length y"), "x [redacted] y");
    let key = knowing("-----BEGIN KEY-----\nabc\ndef\n-----END KEY-----\n");
    assert_eq!(
        key.redact("{\"k\":\"-----BEGIN KEY-----\\nabc\\ndef\\n-----END KEY-----\\n\"}")
            .matches(MASK)
            .count(),
        1
    );
    assert_eq!(key.redact("plain text\nin lines\n"), "plain text\nin lines\n");
}

#[test]
fn values_that_overlap_or_hold_each_other_are_masked_whole() {
    let redactor = knowing("abcdefgh");
    redactor.register("fghijklmnop");
    redactor.register("abcdefgh-and-more");
    assert_eq!(redactor.redact("<abcdefghijklmnop>"), "<[redacted]>");
    assert_eq!(redactor.redact("<abcdefgh-and-more>"), "<[redacted]>");
    assert_eq!(redactor.redact("abcdefghabcdefgh"), "[redacted][redacted]");
}

#[test]
fn where_the_middle_of_a_text_was_cut_out_half_a_value_is_masked_too() {
    let redactor = knowing("secret-value-123");
    let cut = |text: &str| redactor.redact_around(text, "\n[…]\n");
    assert_eq!(cut("a secret-val\n[…]\nlue-123 b"), "a [redacted]\n[…]\n[redacted] b");
    assert_eq!(cut("a secret-value-123\n[…]\nb"), "a [redacted]\n[…]\nb");
    assert_eq!(cut("plain\n[…]\ntext"), "plain\n[…]\ntext");
    assert_eq!(cut("secret-value-123"), "[redacted]");
}

#[test]
fn json_keeps_its_shape() {
    let redactor = knowing(SECRET);
    redactor.register("1234567890");
    let value = serde_json::json!({
        "a": [SECRET, 1_234_567_890_u64, 7, null], SECRET: { "b": format!("x{SECRET}y") },
    });
    let wanted = serde_json::json!({
        "a": [MASK, MASK, 7, null], MASK: { "b": format!("x{MASK}y") },
    });
    assert_eq!(redactor.redact_json(value.clone()), wanted);
    // As text, and as text within a text.
    let text = value["a"].to_string();
    assert!(!redactor.redact(&text).contains("s3cr3t"), "{text}");
    let twice = serde_json::json!({ "args": text }).to_string();
    assert!(!redactor.redact(&twice).contains("s3cr3t"), "{twice}");
}

#[test]
fn a_short_value_is_not_registered() {
    let redactor = knowing("abc");
    assert_eq!(redactor.redact("abc"), "abc");
    assert!(!knowing("a\nb\nc\nd\ne").finds_secret("abcde"));
}

#[test]
fn a_stream_holds_back_only_what_may_be_a_secret() {
    let redactor = knowing("secret-value-123");
    let mut stream = redactor.stream();
    assert_eq!(stream.push("hello "), "hello ");
    assert_eq!(stream.push("a sec"), "a ");
    assert_eq!(stream.push("ond"), "second");
    assert_eq!(stream.push(" secret-va"), " ");
    assert_eq!(stream.push("lue-12"), "");
    assert_eq!(stream.push("3!"), "[redacted]!");
    assert_eq!(stream.push("secret-value-12"), "");
    assert_eq!(stream.finish(), "secret-value-12");
    assert_eq!(stream.finish(), "");
}

proptest! {
    #[test]
    fn a_stream_shows_no_value_however_it_is_cut(
        before in "[a-z\\\\\n]{0,12}",
        after in "[a-z\n]{0,12}",
        form in 0_usize..24,
        cuts in proptest::collection::vec(0_usize..400, 0..6),
    ) {
        let redactor = knowing(SECRET);
        let forms = forms::of(SECRET);
        let form = &forms[form % forms.len()];
        let text = format!("{before}{}{after}", form.as_str());
        let mut places: Vec<usize> = cuts.into_iter().map(|c| text.floor_char_boundary(c)).collect();
        places.extend([0, text.len()]);
        places.sort_unstable();
        let mut stream = redactor.stream();
        let mut shown = String::new();
        for pair in places.windows(2) {
            shown.push_str(&stream.push(text.get(pair[0]..pair[1]).unwrap()));
        }
        shown.push_str(&stream.finish());
        if !form.is_empty() {
            prop_assert!(!redactor.finds_secret(&shown), "{shown:?}");
            prop_assert!(shown.contains(MASK), "{shown:?}");
        }
        prop_assert!(shown.starts_with(before.trim_end_matches(['\n', '\\'])), "{shown:?} {before:?}");
    }
}
