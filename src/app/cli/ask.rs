//! Asks a person at the terminal to decide an approval, or reads the answer from a pipe.

use serde_json::{Value, json};

use crate::domain::{Approval, ApprovalKind};

/// What is asked, with the answers that are understood.
pub(crate) const fn question(kind: ApprovalKind) -> &'static str {
    match kind {
        ApprovalKind::Tool => "allow it? [y]es, for the whole [r]un, [N]o: ",
        ApprovalKind::Budget => "let the run spend more? [y]es, [N]o: ",
        ApprovalKind::UnknownEffect => {
            "a crash hid what became of it. [h]appened, did not happen: [r]un it, [S]kip it, [a]bort the run: "
        }
    }
}

/// The decision that an answer means. Anything that is not understood is the cautious one.
pub(crate) fn decision(approval: &Approval, answer: &str) -> Value {
    let answer = answer.trim().to_ascii_lowercase();
    match approval.kind {
        ApprovalKind::Tool => match answer.as_str() {
            "y" | "yes" => json!({ "decision": "approve" }),
            "r" | "run" => json!({ "decision": "approve", "scope": "run" }),
            _ => json!({ "decision": "deny", "reason": "denied at the terminal" }),
        },
        ApprovalKind::Budget => match answer.as_str() {
            "y" | "yes" => json!({ "decision": "approve" }),
            _ => json!({ "decision": "deny", "reason": "denied at the terminal" }),
        },
        ApprovalKind::UnknownEffect => match answer.as_str() {
            "h" | "happened" => json!({ "decision": "approve", "outcome": "happened" }),
            "r" | "run" => json!({ "decision": "approve", "outcome": "run" }),
            "a" | "abort" => json!({ "decision": "deny", "outcome": "abort" }),
            _ => json!({ "decision": "approve", "outcome": "skip" }),
        },
    }
}
