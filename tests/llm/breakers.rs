//! Models that fail rest, are tried again by one call, and are passed over meanwhile.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use agent_runtime::{
    domain::Secret,
    llm::{BreakerChange, BreakerOptions, BreakerState, ErrorClass, Llm, Options, Watcher},
    runtime::RetryPolicy,
};
use futures_util::future::join_all;

use crate::{
    support::fake_llm::{FakeLlm, Fault, Turn},
    talk::{BOTH, Talk, llm, model, options},
};

const REST: Duration = Duration::from_millis(300);

/// One attempt a call, and rests that a test can wait for.
fn impatient(mut options: Options) -> Options {
    options.retry = RetryPolicy { attempts: 1, ..options.retry };
    options.timeout = Duration::from_millis(300);
    options.breaker = BreakerOptions {
        rest: REST,
        rest_max: 4 * REST,
        long_rest: Duration::from_secs(600),
        ..BreakerOptions::default()
    };
    options
}

fn failing(fake: &FakeLlm, fault: Fault, times: usize) {
    fake.script("x", [Turn::text("well again").after(vec![fault; times])]);
}

/// Asks once, in the same conversation each time, so that faults are spent one after the other.
async fn ask(llm: &Llm) -> Result<String, agent_runtime::llm::LlmError> {
    Talk::new(llm.clone(), "script:x").ask().await.map(|done| done.text)
}

fn state(llm: &Llm, model: &str) -> BreakerState {
    llm.health().into_iter().find(|health| health.model == model).unwrap().state
}

#[tokio::test]
async fn each_class_opens_it_as_its_kind_says() {
    use ErrorClass as E;
    for (fault, class, opens_after) in [
        (Fault::Status(429, Some("0"), "rate_limit_error"), E::RateLimit, Some(5)),
        (Fault::Status(503, None, "overloaded_error"), E::Overloaded, Some(5)),
        (Fault::Status(504, None, "timeout_error"), E::Timeout, Some(5)),
        (Fault::Hang, E::Timeout, Some(5)),
        (Fault::Status(401, None, "authentication_error"), E::Auth, Some(1)),
        (Fault::Status(402, None, "billing_error"), E::Billing, Some(1)),
        (Fault::MalformedJson(0), E::Format, None),
        (Fault::Status(400, None, "context_length_exceeded"), E::ContextOverflow, None),
        (Fault::Status(400, None, "invalid_request_error"), E::BadRequest, None),
    ] {
        for wire in BOTH {
            let fake = FakeLlm::start();
            failing(&fake, fault, 64);
            let llm = llm(impatient(options(&fake, wire)));
            let most = opens_after.unwrap_or(8);
            for n in 1..=most {
                assert_eq!(state(&llm, "default"), BreakerState::Closed, "{class} {n}");
                assert_eq!(ask(&llm).await.unwrap_err().class(), class, "{class} {n}");
            }
            let is_open = matches!(state(&llm, "default"), BreakerState::Open { .. });
            assert_eq!(is_open, opens_after.is_some(), "{class}");
            if is_open {
                let resting = ask(&llm).await.unwrap_err();
                assert_eq!(resting.class(), class);
                assert!(resting.to_string().contains("rests after failures"), "{resting}");
                assert!(resting.retry_after().is_some(), "it says when to try again");
                assert_eq!(fake.seen().len(), most, "nobody was asked");
                assert!(llm.ready().unwrap_err().contains("every model rests"));
            } else {
                assert_eq!(llm.ready(), Ok(()));
            }
        }
    }
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_rests_too() {
    let fake = FakeLlm::start();
    let mut options = impatient(options(&fake, BOTH[0]));
    // Nothing listens there.
    options.models.get_mut("default").unwrap().base_url = "http://127.0.0.1:9".to_owned();
    let llm = llm(options);
    for _ in 0..5 {
        assert_eq!(ask(&llm).await.unwrap_err().class(), ErrorClass::Network);
    }
    assert!(matches!(
        state(&llm, "default"),
        BreakerState::Open { class: ErrorClass::Network, .. }
    ));
}

#[tokio::test]
async fn one_call_tries_a_model_that_rested_and_the_herd_waits() {
    let fake = FakeLlm::start();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    let mut options = impatient(options(&fake, BOTH[0]));
    options.watcher = Some(Watcher(Arc::new(move |change: BreakerChange| {
        told.lock().unwrap().push((change.model, change.state.as_str()));
    })));
    failing(&fake, Fault::Status(500, None, "api_error"), 6);
    let llm = llm(options);
    for _ in 0..5 {
        ask(&llm).await.unwrap_err();
    }
    tokio::time::sleep(REST).await;
    assert!(matches!(state(&llm, "default"), BreakerState::HalfOpen { .. }));
    // Fifty at once: one of them is the probe, and it fails.
    let all = join_all((0..50).map(|_| ask(&llm))).await;
    assert!(all.iter().all(Result::is_err));
    assert_eq!(fake.seen().len(), 6);
    // The rest is longer now; then the probe is answered and everybody is let through.
    tokio::time::sleep(REST).await;
    assert!(matches!(state(&llm, "default"), BreakerState::Open { .. }));
    tokio::time::sleep(REST).await;
    assert_eq!(ask(&llm).await.unwrap(), "well again");
    assert_eq!(state(&llm, "default"), BreakerState::Closed);
    let all = join_all((0..20).map(|_| ask(&llm))).await;
    assert!(all.iter().all(Result::is_ok));
    let heard = heard.lock().unwrap();
    let states: Vec<_> = heard.iter().map(|(_, state)| *state).collect();
    assert_eq!(states, ["open", "open", "closed"]);
}

#[tokio::test]
async fn a_probe_whose_caller_went_away_leaves_its_place_to_the_next() {
    let fake = FakeLlm::start();
    let down = Fault::Status(500, None, "api_error");
    let faults = [down, down, down, down, down, Fault::Hang];
    fake.script("x", [Turn::text("well again").after(faults)]);
    let mut options = impatient(options(&fake, BOTH[0]));
    options.timeout = Duration::from_secs(20);
    let llm = llm(options);
    for _ in 0..5 {
        ask(&llm).await.unwrap_err();
    }
    tokio::time::sleep(REST).await;
    let gone = tokio::time::timeout(Duration::from_millis(200), ask(&llm)).await;
    assert!(gone.is_err(), "the probe hangs until its caller gives up");
    assert_eq!(ask(&llm).await.unwrap(), "well again");
}

#[tokio::test]
async fn a_new_key_ends_the_rest_of_a_refused_one_and_the_same_key_does_not() {
    let fake = FakeLlm::start();
    failing(&fake, Fault::Status(401, None, "authentication_error"), 1);
    let llm = llm(impatient(options(&fake, BOTH[0])));
    ask(&llm).await.unwrap_err();
    assert!(llm.set_key("default", Some(Secret::new("sk-test".to_owned()))));
    assert_eq!(ask(&llm).await.unwrap_err().class(), ErrorClass::Auth);
    assert_eq!(fake.seen().len(), 1);
    assert!(llm.set_key("default", Some(Secret::new("sk-new".to_owned()))));
    assert_eq!(ask(&llm).await.unwrap(), "well again");
}

#[tokio::test]
async fn fallbacks_are_tried_in_order_and_one_that_rests_is_passed_over() {
    let (first, second, third) = (FakeLlm::start(), FakeLlm::start(), FakeLlm::start());
    let down = Fault::Status(503, None, "overloaded_error");
    failing(&first, down, 64);
    failing(&second, down, 3);
    third.script("x", [Turn::text("from the third")]);
    let mut options = impatient(options(&first, BOTH[0]));
    options.models.insert("second".to_owned(), model(&second, BOTH[1]));
    options.models.insert("third".to_owned(), model(&third, BOTH[0]));
    options.models.get_mut("default").unwrap().fallbacks =
        vec!["second".to_owned(), "third".to_owned()];
    let llm = llm(options);
    for _ in 0..3 {
        assert_eq!(ask(&llm).await.unwrap(), "from the third");
    }
    for _ in 0..4 {
        assert_eq!(ask(&llm).await.unwrap(), "well again", "the second answers now");
    }
    assert_eq!(first.seen().len(), 5, "the first rests since its fifth failure");
    assert_eq!((second.seen().len(), third.seen().len()), (7, 3));
    assert_eq!(llm.ready(), Ok(()), "there are models that can be asked");
}

#[tokio::test]
async fn a_failure_goes_to_a_fallback_only_where_that_can_help() {
    for (fault, same_service, other_service, small) in [
        // What the service refuses as such it refuses again; another one may not.
        (Fault::Status(400, None, "invalid_request_error"), false, true, true),
        // It does not know the model; another model it may know.
        (Fault::Status(404, None, "not_found"), true, true, true),
        // A longer conversation needs a larger model.
        (Fault::Status(400, None, "context_length_exceeded"), true, true, false),
        (Fault::MalformedJson(0), true, true, true),
    ] {
        let (fake, other) = (FakeLlm::start(), FakeLlm::start());
        // The first request of the conversation fails at each of them; the second is answered.
        fake.script("x", [Turn::text("same service").after([fault])]);
        other.script("x", [Turn::text("other service")]);
        let mut base = impatient(options(&fake, BOTH[0]));
        base.models.get_mut("default").unwrap().context_tokens = Some(1_000);
        let with = |fallback: agent_runtime::llm::ModelOptions| {
            let mut options = base.clone();
            options.models.insert("fallback".to_owned(), fallback);
            options.models.get_mut("default").unwrap().fallbacks = vec!["fallback".to_owned()];
            llm(options)
        };
        let conversation = |n: u8| {
            Talk::new(
                match n {
                    0 => with(model(&fake, BOTH[0])),
                    1 => with(model(&other, BOTH[0])),
                    _ => {
                        let mut small = model(&other, BOTH[0]);
                        small.context_tokens = Some(500);
                        with(small)
                    }
                },
                &format!("script:x {n}"),
            )
        };
        assert_eq!(conversation(0).ask().await.is_ok(), same_service, "{fault:?} same");
        assert_eq!(conversation(1).ask().await.is_ok(), other_service, "{fault:?} other");
        assert_eq!(conversation(2).ask().await.is_ok(), small, "{fault:?} small");
    }
}

#[tokio::test]
async fn when_every_model_rests_the_error_names_the_one_that_comes_back_first() {
    let (first, second) = (FakeLlm::start(), FakeLlm::start());
    failing(&first, Fault::Status(401, None, "authentication_error"), 64);
    failing(&second, Fault::Status(503, None, "overloaded_error"), 64);
    let mut options = impatient(options(&first, BOTH[0]));
    options.models.insert("second".to_owned(), model(&second, BOTH[0]));
    options.models.get_mut("default").unwrap().fallbacks = vec!["second".to_owned()];
    let llm = llm(options);
    for _ in 0..5 {
        ask(&llm).await.unwrap_err();
    }
    let error = ask(&llm).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Overloaded, "{error}");
    assert!(error.is_retryable() && error.to_string().contains("`second`"), "{error}");
    assert!(error.retry_after().is_some_and(|wait| wait <= Duration::from_secs(1)));
    assert!(llm.ready().unwrap_err().contains("every model rests"));
}
