use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Outer {
    name: String,
    #[serde(default)]
    inner: Option<Inner>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Inner {
    count: u32,
}

fn refused(json: &str) -> (u16, &'static str, Vec<String>) {
    let problem = parse::<Outer>(json.as_bytes()).unwrap_err();
    let pointers = problem.errors().iter().map(|e| e.pointer.clone()).collect();
    (problem.status().as_u16(), problem.code(), pointers)
}

#[test]
fn what_is_not_json_is_400() {
    for json in ["", "{", "{\"name\":}", "nope", "{\"name\":\"a\"} x", "{\"name\":\"\u{1}\"}"] {
        assert_eq!(refused(json), (400, "request.malformed", vec![]), "{json}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(refused(&format!("{{\"x\":{deep}")).0 / 100, 4);
    assert_eq!(parse::<Outer>(b"{\"name\":\"\xff\"}").unwrap_err().status().as_u16(), 400);
}

#[test]
fn what_is_json_but_wrong_is_422_with_a_pointer() {
    for (json, pointer) in [
        ("{}", "/name"),
        ("{\"name\":1}", "/name"),
        ("{\"name\":\"a\",\"x/y\":1}", "/x~1y"),
        ("{\"name\":\"a\",\"inner\":{}}", "/inner/count"),
        ("{\"name\":\"a\",\"inner\":{\"count\":-1}}", "/inner/count"),
        ("{\"name\":\"a\",\"inner\":{\"count\":1,\"y\":2}}", "/inner/y"),
        ("[]", ""),
        ("3", ""),
    ] {
        let expected = (422, "request.invalid", vec![pointer.to_owned()]);
        assert_eq!(refused(json), expected, "{json}");
        let value = serde_json::from_str(json).unwrap();
        let again = typed::<Outer>(value).unwrap_err();
        assert_eq!(again.errors().first().unwrap().pointer, pointer, "{json}");
    }
}

#[test]
fn what_is_right_is_read() {
    let outer = parse::<Outer>(b" {\"name\":\"a\",\"inner\":{\"count\":3}}\n").unwrap();
    assert_eq!(outer, Outer { name: "a".to_owned(), inner: Some(Inner { count: 3 }) });
}

fn request(headers: &[(&str, &str)], body: impl Into<Body>) -> Request {
    let mut request = http::Request::post("/x");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

async fn taken(request: Request) -> Result<Command<Outer>, (u16, &'static str)> {
    Command::from_request(request, &()).await.map_err(|p| (p.status().as_u16(), p.code()))
}

const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

#[tokio::test]
async fn a_body_is_json_and_within_bounds() {
    let good = "{\"name\":\"a\"}";
    assert_eq!(taken(request(&[JSON], good)).await.unwrap().body.name, "a");
    for wrong in ["text/plain", "application/jsonx", ""] {
        let answer = taken(request(&[("content-type", wrong)], good)).await.unwrap_err();
        assert_eq!(answer, (415, "request.media_type"), "{wrong}");
    }
    assert_eq!(taken(request(&[], good)).await.unwrap_err(), (415, "request.media_type"));
    let huge = format!("{{\"name\":\"{}\"}}", "x".repeat(limits::BODY_BYTES_MAX));
    assert_eq!(taken(request(&[JSON], huge)).await.unwrap_err(), (413, "request.too_large"));
    let announced = request(&[JSON, ("content-length", "9999999")], good);
    assert_eq!(taken(announced).await.unwrap_err(), (413, "request.too_large"));
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let never = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let body = Body::from_stream(never);
    let answer = read(&HeaderMap::new(), body, Duration::from_millis(1)).await.unwrap_err();
    assert_eq!((answer.status().as_u16(), answer.code()), (408, "request.too_slow"));
}

#[tokio::test]
async fn an_idempotency_key_has_bounds_and_a_fingerprint_of_the_whole_request() {
    let body = "{\"name\":\"a\"}";
    let with = |key: &str| request(&[JSON, ("idempotency-key", key)], body.to_owned());
    let first = taken(with("k1")).await.unwrap().idempotency.unwrap();
    assert_eq!(first.key, "k1");
    assert_eq!(first.fingerprint, fingerprint(&Method::POST, "/x", body.as_bytes()));
    assert_ne!(first.fingerprint, fingerprint(&Method::POST, "/y", body.as_bytes()));
    assert_ne!(first.fingerprint, fingerprint(&Method::POST, "/x", b"{}"));
    let longest = "k".repeat(limits::IDEMPOTENCY_KEY_BYTES_MAX);
    assert!(taken(with(&longest)).await.is_ok());
    let keys = [String::new(), format!("{longest}k"), "a b".to_owned()];
    for key in &keys {
        let answer = taken(with(key)).await.unwrap_err();
        assert_eq!(answer, (400, "idempotency.key_invalid"), "{key:?}");
    }
    let twice = request(&[JSON, ("idempotency-key", "a"), ("idempotency-key", "b")], body);
    assert!(taken(twice).await.is_err());
    assert!(taken(request(&[JSON], body)).await.unwrap().idempotency.is_none());
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Paging {
    #[serde(default)]
    limit: Option<u32>,
}

#[tokio::test]
async fn a_query_is_typed_and_unknown_names_are_refused() {
    for (uri, expected) in [
        ("/x", Ok(None)),
        ("/x?limit=3", Ok(Some(3))),
        ("/x?limit=-1", Err("/limit".to_owned())),
        ("/x?color=red", Err("/color".to_owned())),
    ] {
        let (mut parts, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
        let got = Query::<Paging>::from_request_parts(&mut parts, &()).await;
        let got = got.map(|q| q.0.limit).map_err(|p| p.errors().first().unwrap().pointer.clone());
        assert_eq!(got, expected, "{uri}");
    }
}
