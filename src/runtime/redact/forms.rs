//! The ways in which a value is commonly written.

use base64::{
    Engine,
    engine::{GeneralPurpose, general_purpose},
};
use zeroize::Zeroizing;

/// Base64 writes three bytes as four characters.
const GROUP: usize = 3;

/// Every form of a value, itself first.
pub(super) fn of(secret: &str) -> Vec<Zeroizing<String>> {
    let json = escaped(secret);
    let mut forms = vec![
        secret.to_owned(),
        escaped(&json),
        json,
        data_encoding::HEXLOWER.encode(secret.as_bytes()),
        data_encoding::HEXUPPER.encode(secret.as_bytes()),
        html(secret, "&quot;", "&#39;"),
        html(secret, "&#34;", "&#x27;"),
        wide(secret, "\0"),
        wide(secret, "\\u0000"),
    ];
    for engine in [&general_purpose::STANDARD_NO_PAD, &general_purpose::URL_SAFE_NO_PAD] {
        forms.extend((0..GROUP).flat_map(|at| base64_at(engine, secret, at)));
    }
    for kept in [UNRESERVED, PATH, COMPONENT, URI, NOTHING] {
        forms.push(percent(secret, kept, false));
        forms.push(percent(secret, kept, true));
    }
    // As forms are sent: RFC 3986 and a plus for a space.
    forms.push(percent(secret, UNRESERVED, true).replace("%20", "+"));
    forms.into_iter().map(Zeroizing::new).collect()
}

/// As JSON writes it between its quotes.
fn escaped(text: &str) -> String {
    let json = serde_json::to_string(text).unwrap_or_default();
    let inner = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

fn html(text: &str, quote: &str, apostrophe: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', quote)
        .replace('\'', apostrophe)
}

/// As UTF-16 looks when it is read as bytes, in either order: the zeros between the characters.
fn wide(text: &str, zero: &str) -> String {
    let characters: Vec<String> = text.chars().map(String::from).collect();
    if text.is_ascii() { characters.join(zero) } else { String::new() }
}

/// Base64 of a longer text in which the value begins `at` bytes after a group: without the
/// characters at both ends that its neighbours decide too, and with the last one as it is when
/// nothing follows.
fn base64_at(engine: &GeneralPurpose, secret: &str, at: usize) -> [String; 2] {
    let mut bytes = Zeroizing::new(vec![0_u8; at]);
    bytes.extend_from_slice(secret.as_bytes());
    let text = Zeroizing::new(engine.encode(&*bytes));
    let before = if at == 0 { 0 } else { at + 1 };
    let after = usize::from(!bytes.len().is_multiple_of(GROUP));
    [after, 0].map(|less| {
        text.get(before..text.len().saturating_sub(less)).unwrap_or_default().to_owned()
    })
}

/// What RFC 3986 never encodes.
const UNRESERVED: &[u8] = b"-._~";
/// The same in a path.
const PATH: &[u8] = b"-._~/";
/// What JavaScript's `encodeURIComponent` keeps besides.
const COMPONENT: &[u8] = b"-._~!*'()";
/// What `encodeURI` keeps.
const URI: &[u8] = b"-._~!*'();/?:@&=+$,#";
/// Letters and digits are encoded too.
const NOTHING: &[u8] = b"";

fn percent(secret: &str, kept: &[u8], is_upper: bool) -> String {
    let is_kept = |b: u8| kept.contains(&b) || (!kept.is_empty() && b.is_ascii_alphanumeric());
    secret
        .bytes()
        .map(|b| match b {
            b if is_kept(b) => char::from(b).to_string(),
            b if is_upper => format!("%{b:02X}"),
            b => format!("%{b:02x}"),
        })
        .collect()
}
