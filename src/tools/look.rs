//! What a call would touch, for the person who is asked about it.

use std::sync::Arc;

use super::{Tools, exec::Process, parse::Invocation, place};
use crate::{
    domain::{Binding, Bound, Grant},
    runtime::Tasks,
};

impl Tools {
    /// Looks at the machine: which directory, program or file the call means now. The same before
    /// the question and before the start. Changes nothing.
    ///
    /// # Errors
    /// One sentence for the model, where there is nothing that could be approved.
    pub async fn look(&self, call: &Invocation, grant: Arc<Grant>) -> Result<Bound, String> {
        let (tools, call) = (self.clone(), call.clone());
        let look = move || tools.look_now(&call, &grant);
        match Tasks::spawn_blocking(look).await {
            Ok(found) => found,
            Err(panicked) => {
                tracing::error!(error = %panicked, "looking at a call panicked");
                Err("what the call would touch could not be found out".to_owned())
            }
        }
    }

    fn look_now(&self, call: &Invocation, grant: &Grant) -> Result<Bound, String> {
        let process = |process: Process| {
            let found = self.sandbox.bind(grant, process.program(), process.cwd());
            found.map_err(|error| error.to_string())
        };
        let written = |path: &str| {
            let place = place::find_writable(grant, path).map_err(|error| error.to_string())?;
            let target = place.target().map_err(|error| error.to_string())?;
            let profile = self.sandbox.profile(grant);
            Ok(Bound { target: Some(target), profile, ..Bound::default() })
        };
        match call {
            Invocation::Exec(exec) => process(exec.into()),
            Invocation::Shell(shell) => process(shell.into()),
            Invocation::WriteFile(call) => written(&call.path),
            Invocation::EditFile(call) => written(&call.path),
            Invocation::ReadFile(_)
            | Invocation::ListFiles(_)
            | Invocation::SearchFiles(_)
            | Invocation::HttpRequest(_)
            | Invocation::AskUser(_) => {
                Ok(Bound { profile: self.sandbox.profile(grant), ..Bound::default() })
            }
        }
    }
}

/// SHA-256 (hex) over everything that an approval binds.
pub fn binding_hash(binding: &Binding<'_>) -> String {
    // Nothing in it can fail to be written; if it did, the hash would match no other.
    super::args_hash("binding", &serde_json::to_value(binding).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_binding_changes_its_hash() {
        let (bound, egress) = (Bound::default(), vec!["a".to_owned()]);
        let binding =
            Binding { args_hash: "x", bound: &bound, egress: &egress, policy_version: "v" };
        let other = Bound { profile: "p".to_owned(), ..Bound::default() };
        let all = [
            binding_hash(&binding),
            binding_hash(&Binding { args_hash: "y", ..binding.clone() }),
            binding_hash(&Binding { bound: &other, ..binding.clone() }),
            binding_hash(&Binding { egress: &[], ..binding.clone() }),
            binding_hash(&Binding { policy_version: "w", ..binding.clone() }),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all.first(), Some(&binding_hash(&binding)));
    }
}
