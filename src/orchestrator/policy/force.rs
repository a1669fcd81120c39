//! Which policy is in force: at start, at a reload, and after each change.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::{By, activate, entry, known, parse, store};
use crate::{
    auth::{
        Policies,
        policy::{Policy, PolicyError},
    },
    domain::{PolicyActivation, PolicyOrigin, PolicyVersion},
    orchestrator::{Inner, Orchestrator, error::CommandError, transition::Actor},
    runtime::{TaskKind, tasks::lock},
    store::{StoreError, Tx},
};

/// Why no policy could be put in force. The daemon does not start without one.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFault {
    /// The store did not give it.
    #[error("the policy in force cannot be read from the store")]
    Store(#[source] StoreError),
    /// This program cannot read its text.
    #[error(
        "the policy in force (version {}) cannot be read by this program: put one that it can read \
         into the file that `policy.file` names, and start again",
        version.short()
    )]
    Unreadable {
        /// Which.
        version: PolicyVersion,
        /// What is wrong with it.
        #[source]
        source: PolicyError,
    },
    /// Its text is not the one that was put in force.
    #[error(
        "the text of the policy in force (version {}) was changed in the store: look into it, then put \
         the policy that shall be in force into the file that `policy.file` names, and start again",
        version.short()
    )]
    Changed {
        /// Which.
        version: PolicyVersion,
    },
}

/// The live handle, and which activation it holds.
#[derive(Debug)]
pub(in crate::orchestrator) struct InForce {
    policies: Policies,
    activation: Mutex<u64>,
}

impl InForce {
    pub(in crate::orchestrator) const fn new(policies: Policies) -> Self {
        Self { policies, activation: Mutex::new(0) }
    }

    /// The policy that decides now.
    pub(in crate::orchestrator) fn current(&self) -> Arc<Policy> {
        self.policies.current()
    }

    /// Puts a policy in force, unless a later activation already is.
    pub(super) fn put_in_force(&self, activation: &PolicyActivation, policy: Arc<Policy>) {
        let mut last = lock(&self.activation);
        if activation.n <= *last {
            return;
        }
        *last = activation.n;
        tracing::info!(
            version = activation.version.short(),
            origin = activation.origin.as_str(),
            "a policy is in force"
        );
        // Under the lock, so that two changes do not pass each other.
        self.policies.replace(policy);
    }
}

impl Orchestrator {
    /// Looks at the configuration's policy file again, as at start: a text that differs from the
    /// file's last version is stored and put in force. None: the configuration names no file.
    ///
    /// # Errors
    /// When the store does not do it; what was in force stays.
    pub fn reload_policy(
        &self,
        file: Option<Arc<Policy>>,
    ) -> impl Future<Output = Result<(), PolicyFault>> + Send + use<> {
        let inner = Arc::clone(&self.inner);
        async move { inner.take_up_policy(file).await }
    }
}

impl Inner {
    /// Puts in force what has to be: the last activation of the store, unless the file's text is
    /// new, or nothing was ever in force.
    pub(in crate::orchestrator) async fn take_up_policy(
        &self,
        file: Option<Arc<Policy>>,
    ) -> Result<(), PolicyFault> {
        let taken = self
            .store
            .change(move |tx| Box::pin(async move { take_up(tx, file).await }))
            .await
            .map_err(PolicyFault::Store)?;
        let (activation, policy) = match taken {
            Taken::Read(activation, policy) => (activation, policy),
            Taken::Text(activation, text) => {
                let version = activation.version.clone();
                let read = parse(text).await.map_err(internal)?;
                let policy = match read {
                    Ok(policy) if policy.version() == version.as_str() => policy,
                    Ok(_) => return Err(PolicyFault::Changed { version }),
                    Err(source) => return Err(PolicyFault::Unreadable { version, source }),
                };
                (activation, Arc::new(policy))
            }
        };
        self.policy.put_in_force(&activation, policy);
        Ok(())
    }

    /// Puts in force what another replica activated. Never activates anything: two programs of
    /// different versions would take turns with their own rules.
    pub(in crate::orchestrator) async fn follow_policy(&self) -> Result<(), PolicyFault> {
        let read = async {
            let mut reader = self.store.read().await?;
            let Some(active) = reader.policies().active().await? else { return Ok(None) };
            if active.n <= *lock(&self.policy.activation) {
                return Ok(None);
            }
            let stored = known(reader.policies().get(&active.version).await?)?;
            Ok::<_, StoreError>(Some((active, stored.source)))
        };
        let Some((activation, text)) = read.await.map_err(PolicyFault::Store)? else {
            return Ok(());
        };
        let version = activation.version.clone();
        match parse(text).await.map_err(internal)? {
            Ok(policy) if policy.version() == version.as_str() => {
                self.policy.put_in_force(&activation, Arc::new(policy));
                Ok(())
            }
            Ok(_) => Err(PolicyFault::Changed { version }),
            Err(source) => Err(PolicyFault::Unreadable { version, source }),
        }
    }

    /// Work that goes on when the one who waits for it goes away.
    pub(in crate::orchestrator) async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, CommandError>> + Send + 'static,
    ) -> Result<T, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.tasks.spawn(TaskKind::Helper, |_| async move {
            // Nobody waits any more: it is done all the same.
            drop(reply.send(work.await));
        });
        let ended = || StoreError::Unavailable { doing: "finish a change", source: None };
        answer.await.unwrap_or_else(|_| Err(ended().into()))
    }
}

/// What is to be in force.
enum Taken {
    /// Read already.
    Read(PolicyActivation, Arc<Policy>),
    /// As the store has it.
    Text(PolicyActivation, String),
}

async fn take_up(tx: &mut Tx, file: Option<Arc<Policy>>) -> Result<Taken, StoreError> {
    let active = tx.policies().active().await?;
    let builtin = Policy::builtin();
    let of_file = tx.policies().last_of_file().await?;
    let is_new = |file: &Arc<Policy>| {
        of_file.as_ref().is_none_or(|last| last.version.as_str() != file.version())
    };
    let (policy, origin, active) = match (file.filter(is_new), active) {
        (Some(file), active) => (file, PolicyOrigin::File, active),
        (None, None) => (Arc::new(builtin), PolicyOrigin::Builtin, None),
        // The program's own rules are those of the program that runs.
        (None, Some(active))
            if active.origin == PolicyOrigin::Builtin
                && active.version.as_str() != builtin.version() =>
        {
            (Arc::new(builtin), PolicyOrigin::Builtin, Some(active))
        }
        (None, Some(active)) => {
            let stored = known(tx.policies().get(&active.version).await?)?;
            return Ok(Taken::Text(active, stored.source));
        }
    };
    let version = version_of(&policy)?;
    let system = Actor::system();
    let by = By { actor: &system, note: None };
    store(tx, &policy, &version, by).await?;
    let activation = activate(tx, &version, origin, by).await?;
    let before = active.map(|active| active.version);
    let what = match origin {
        PolicyOrigin::Builtin => "builtin_taken_up",
        PolicyOrigin::File | PolicyOrigin::Admin => "file_taken_up",
    };
    tx.audit(entry(by, what, before.as_ref(), Some(&version), &version));
    Ok(Taken::Read(activation, policy))
}

/// The version of a policy as a type.
pub(in crate::orchestrator) fn version_of(policy: &Policy) -> Result<PolicyVersion, StoreError> {
    let corrupt = |error| StoreError::Corrupt { what: format!("a policy's version: {error}") };
    policy.version().parse().map_err(corrupt)
}

fn internal(error: CommandError) -> PolicyFault {
    PolicyFault::Store(StoreError::Corrupt { what: error.to_string() })
}
