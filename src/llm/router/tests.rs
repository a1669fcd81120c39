use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::llm::{ToolSchema, testing};

/// A call that nobody watches and that has no bound of cost.
const ALONE: Watched<'static> = Watched { deltas: None, again: None };

fn entry(provider: Provider, base_url: &str) -> ModelOptions {
    ModelOptions {
        provider,
        base_url: base_url.to_owned(),
        model: "m".to_owned(),
        ..ModelOptions::default()
    }
}

fn router(
    models: impl IntoIterator<Item = (&'static str, ModelOptions)>,
) -> Result<Router, LlmError> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let models = models.into_iter().map(|(name, model)| (name.to_owned(), model)).collect();
    Router::new(Options { models, random: || u32::MAX, ..Options::default() })
}

fn reason(models: impl IntoIterator<Item = (&'static str, ModelOptions)>) -> String {
    router(models).unwrap_err().to_string()
}

#[test]
fn an_entry_that_cannot_work_is_refused_with_the_reason() {
    let base = |url: &str| [("a", entry(Provider::OpenAi, url))];
    assert!(reason(base("ftp://x")).contains("http://"));
    assert!(reason(base("not an address")).contains("not an address"));
    assert!(reason(base("http://user:word@x")).contains("credentials"));
    let fallback =
        |to: &str| ModelOptions { fallbacks: vec![to.to_owned()], ..entry(Provider::Builtin, "") };
    assert!(reason([("a", fallback("b"))]).contains("`b` is not configured"));
    assert!(reason([("a", fallback("a"))]).contains("its own fallback"));
    let unnamed = ModelOptions { model: String::new(), ..entry(Provider::Anthropic, "") };
    assert!(reason([("a", unnamed)]).contains("name of the model is missing"));
}

#[test]
fn addresses_are_completed() {
    for (provider, base, expected) in [
        (Provider::OpenAi, "", "https://api.openai.com/v1/chat/completions"),
        (Provider::OpenAi, "http://127.0.0.1:9/v1/", "http://127.0.0.1:9/v1/chat/completions"),
        (Provider::Anthropic, "", "https://api.anthropic.com/v1/messages"),
        (Provider::Anthropic, "http://x/v1", "http://x/v1/messages"),
        (Provider::Anthropic, "http://x/proxy/", "http://x/proxy/v1/messages"),
    ] {
        let url = endpoint(&entry(provider, base)).unwrap().unwrap();
        assert_eq!(url.as_str(), expected);
    }
    assert_eq!(endpoint(&entry(Provider::Builtin, "")), Ok(None));
}

#[test]
fn a_public_service_is_ready_only_with_a_key_and_ones_own_server_without() {
    assert!(router([]).unwrap().ready().unwrap_err().contains("no model"));
    let models = [
        ("mine", entry(Provider::OpenAi, "http://127.0.0.1:9")),
        ("none", entry(Provider::Builtin, "")),
        ("public", entry(Provider::Anthropic, "")),
    ];
    let router = router(models).unwrap();
    assert_eq!(router.ready(), Err("model `public` (anthropic) has no API key".to_owned()));
    assert!(router.set_key("public", Some(Secret::new("k".to_owned()))));
    assert_eq!(router.ready(), Ok(()));
}

#[test]
fn waits_honour_the_provider_the_bound_and_the_number_of_attempts() {
    let router = router([("a", entry(Provider::Builtin, ""))]).unwrap();
    let secs = Duration::from_secs;
    let failure =
        |after| Failure { retry_after: after, ..Failure::new(ErrorClass::RateLimit, "x") };
    assert_eq!(router.wait(&failure(None), 1), Some(Duration::from_millis(500)));
    assert_eq!(router.wait(&failure(Some(secs(7))), 1), Some(secs(7)));
    assert_eq!(router.wait(&failure(Some(secs(0))), 2), Some(secs(1)));
    assert_eq!(router.wait(&failure(Some(secs(31))), 1), None);
    assert_eq!(router.wait(&failure(None), 3), None);
    assert_eq!(router.wait(&Failure::new(ErrorClass::Auth, "x"), 1), None);
}

#[tokio::test]
async fn the_stand_in_streams_and_proposes_calls() {
    let router = router([("default", entry(Provider::Builtin, ""))]).unwrap();
    let mut request = testing::request(vec![testing::user("read a.txt")]);
    request.tools = Arc::new([ToolSchema {
        name: "read_file".to_owned(),
        description: String::new(),
        parameters: json!({}),
    }]);
    let (sender, mut deltas) = mpsc::channel(64);
    let stop = CancellationToken::new();
    let done = router
        .complete(&request, Watched { deltas: Some(&sender), again: None }, &stop)
        .await
        .unwrap();
    drop(sender);
    let mut streamed = String::new();
    while let Some(delta) = deltas.recv().await {
        streamed.push_str(&delta);
    }
    assert_eq!(streamed, done.text);
    assert_eq!(done.calls.len(), 1);
    assert_eq!(
        (done.calls[0].name.as_str(), &done.calls[0].args),
        ("read_file", &json!({"path": "a.txt"}))
    );
    assert!(!done.usage.reported && done.usage.input > 0);
    assert_eq!(router.price("default", 1_000_000, 1_000_000), Usd::ZERO);
}

#[tokio::test]
async fn a_model_that_is_not_configured_and_a_stop_are_told_apart() {
    let router = router([("other", entry(Provider::Builtin, ""))]).unwrap();
    let request = testing::request(vec![testing::user("x")]);
    let stop = CancellationToken::new();
    let unknown = router.complete(&request, ALONE, &stop).await.unwrap_err();
    assert_eq!(unknown, LlmError::UnknownModel { model: "default".to_owned() });
    stop.cancel();
    let cancelled = router.complete(&request, ALONE, &stop).await.unwrap_err();
    assert_eq!(cancelled, LlmError::Cancelled);
}

#[tokio::test]
async fn a_conversation_that_cannot_fit_is_not_sent() {
    let small = ModelOptions {
        context_tokens: Some(100),
        // Nothing listens there: a request would be a network failure.
        ..entry(Provider::OpenAi, "http://127.0.0.1:9")
    };
    let router = router([("default", small)]).unwrap();
    let request = testing::request(vec![testing::user(&"word ".repeat(1_000))]);
    let failed = router.complete(&request, ALONE, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(failed.class(), ErrorClass::ContextOverflow);
}

#[test]
fn what_a_call_with_an_older_key_finds_says_nothing_about_the_new_one() {
    let keyed = |key: &str| Some(Secret::new(key.to_owned()));
    let own =
        ModelOptions { api_key: keyed("old"), ..entry(Provider::OpenAi, "http://127.0.0.1:9") };
    let router = router([("m", own)]).unwrap();
    let entry = &router.entries["m"];
    let refuse = |generation| {
        let now = time::Instant::now();
        entry.heard(generation, |breaker| breaker.failed(ErrorClass::Auth, None, false, now))
    };
    let under_way = lock(&entry.breaker).generation();
    assert!(router.set_key("m", keyed("new")));
    assert_eq!(refuse(under_way), Change::None);
    assert_eq!(router.health()[0].state, BreakerState::Closed, "the new key was not refused");
    assert_eq!(entry.key().unwrap().expose(), "new");
    // The same value again is no new key.
    let now = lock(&entry.breaker).generation();
    assert!(router.set_key("m", keyed("new")));
    assert!(matches!(refuse(now), Change::Opened { class: ErrorClass::Auth, .. }));
}
