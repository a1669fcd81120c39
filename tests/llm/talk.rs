//! A conversation with the real client, kept the way the daemon keeps it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use agent_runtime::{
    domain::{Author, Message, Part, Secret, Timestamp, ToolCallId, ToolStatus},
    llm::{Completion, Llm, LlmError, ModelOptions, Options, Provider, Request, ToolSchema},
    runtime::RetryPolicy,
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{fake_llm::FakeLlm, fake_wire::Wire};

pub(crate) const BOTH: [Wire; 2] = [Wire::OpenAi, Wire::Anthropic];

/// A model entry that asks the fake.
pub(crate) fn model(fake: &FakeLlm, wire: Wire) -> ModelOptions {
    let (provider, base_url) = match wire {
        Wire::OpenAi => (Provider::OpenAi, fake.openai_url()),
        Wire::Anthropic => (Provider::Anthropic, fake.anthropic_url()),
    };
    ModelOptions {
        provider,
        base_url,
        api_key: Some(Secret::new("sk-test".to_owned())),
        model: "fake-1".to_owned(),
        ..ModelOptions::default()
    }
}

/// Options with one model, `default`, and little patience.
pub(crate) fn options(fake: &FakeLlm, wire: Wire) -> Options {
    Options {
        models: BTreeMap::from([("default".to_owned(), model(fake, wire))]),
        timeout: Duration::from_secs(1),
        total_timeout: Duration::from_secs(20),
        retry: RetryPolicy {
            attempts: 3,
            first: Duration::from_millis(2),
            longest: Duration::from_millis(8),
        },
        ..Options::default()
    }
}

pub(crate) fn llm(options: Options) -> Llm {
    // The daemon does this at its start; a second time in the same process is refused.
    rustls::crypto::ring::default_provider().install_default().ok();
    Llm::new(options).expect("valid options")
}

/// A conversation.
pub(crate) struct Talk {
    llm: Llm,
    messages: Vec<Arc<Message>>,
    calls: u128,
}

impl Talk {
    pub(crate) fn new(llm: Llm, input: &str) -> Self {
        let mut talk = Self { llm, messages: Vec::new(), calls: 0 };
        talk.push(Author::User, vec![Part::Text { text: input.to_owned() }]);
        talk
    }

    pub(crate) fn push(&mut self, role: Author, content: Vec<Part>) {
        self.messages.push(Arc::new(Message {
            id: Uuid::nil().into(),
            conversation_id: Uuid::nil().into(),
            seq: u64::try_from(self.messages.len()).unwrap_or(0) + 1,
            run_id: Uuid::nil().into(),
            role,
            content,
            at: Timestamp::from_micros(0),
        }));
    }

    pub(crate) fn request(&self) -> Request {
        Request {
            model: "default".to_owned(),
            system: "You are tested.".into(),
            messages: self.messages.clone(),
            tools: Arc::new([ToolSchema {
                name: "read_file".to_owned(),
                description: "Reads a file.".to_owned(),
                parameters: json!({"type": "object", "properties": {"path": {"type": "string"}}}),
            }]),
            max_output_tokens: 1_000,
        }
    }

    /// Asks once.
    pub(crate) async fn ask(&self) -> Result<Completion, LlmError> {
        self.llm.complete(self.request(), None, None, CancellationToken::new()).await
    }

    /// Asks once; returns the deltas too.
    pub(crate) async fn watch(&self) -> (Result<Completion, LlmError>, Vec<String>) {
        let (sender, mut receiver) = mpsc::channel(10_000);
        let done =
            self.llm.complete(self.request(), Some(sender), None, CancellationToken::new()).await;
        let mut deltas = Vec::new();
        while let Some(delta) = receiver.recv().await {
            deltas.push(delta);
        }
        (done, deltas)
    }

    /// Stores the answer and a result for each of its calls, as the daemon does; returns the ids.
    pub(crate) fn answer_calls(&mut self, done: &Completion, status: ToolStatus) -> Vec<String> {
        let mut content = Vec::new();
        if !done.text.is_empty() {
            content.push(Part::Text { text: done.text.clone() });
        }
        let (mut ids, mut results) = (Vec::new(), Vec::new());
        for call in &done.calls {
            self.calls += 1;
            let call_id = ToolCallId::from(Uuid::from_u128(self.calls));
            ids.push(call_id.to_string());
            let (tool, args) = (call.name.clone(), call.args.clone());
            content.push(Part::ToolCall { call_id, tool, args });
            let text = format!("result {}", self.calls);
            results.push(Part::ToolResult { call_id, status, text });
        }
        self.push(Author::Assistant, content);
        if !results.is_empty() {
            self.push(Author::Tool, results);
        }
        ids
    }
}
