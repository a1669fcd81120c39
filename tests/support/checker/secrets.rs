//! 11: secrets stand nowhere.

use base64::Engine as _;
use serde::Serialize;

use super::{Truth, Violation, Witness};

impl Truth {
    /// 11: no secret stands, in plain or in a common encoding, in anything that is kept.
    pub(super) fn leaked_secrets(&self, witness: &Witness) -> Vec<Violation> {
        let forms: Vec<(&str, String)> = witness
            .secrets
            .iter()
            .flat_map(|secret| {
                [
                    (secret.as_str(), secret.clone()),
                    (secret.as_str(), base64::engine::general_purpose::STANDARD.encode(secret)),
                    (secret.as_str(), data_encoding::HEXLOWER.encode(secret.as_bytes())),
                ]
            })
            .collect();
        if forms.is_empty() {
            return Vec::new();
        }
        let mut wrong = Vec::new();
        let mut look = |place: &str, text: &str| {
            for (secret, form) in &forms {
                if text.contains(form.as_str()) {
                    let begin: String = secret.chars().take(4).collect();
                    let what = format!("a secret ({begin}…) stands in {place}");
                    wrong.push(Violation::of(11, what));
                }
            }
        };
        for event in self.events.values().flatten() {
            look(&format!("event {}/{}", event.run_id, event.seq), &json(event));
        }
        for row in &self.audit {
            look(&format!("audit row {}", row.n), &json(row));
        }
        for bundle in &self.bundles {
            look(&format!("bundle {}", bundle.id), &json(bundle));
        }
        for run in &self.runs {
            look(&format!("run {}", run.id), &json(run));
        }
        for call in self.calls.values() {
            look(&format!("call {}", call.id), &json(call));
        }
        for approval in &self.approvals {
            look(&format!("approval {}", approval.id), &json(approval));
        }
        for (thread, messages) in &self.threads {
            for message in messages {
                look(&format!("message {}/{}", thread.id, message.seq), &json(message));
            }
        }
        for (name, text) in &witness.texts {
            look(name, text);
        }
        wrong
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("JSON")
}
