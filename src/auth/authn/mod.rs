//! Who is this? A presented credential becomes a [`Principal`], or a
//! refusal that is logged, counted and audited.

mod local;
mod lockout;
mod table;
mod token;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use serde_json::json;

use crate::domain::{AuditEntry, AuditKind, Clock, Principal, Surface};

use super::AuditSink;

pub use local::local_operator;
pub use lockout::{Lockout, Subject};
pub use table::{TokenRef, TokenTable, Verified};
pub use token::{TokenEntry, TokenError, TokenHash, generate, principal_id_of, token_id};

/// Why nobody could be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No credential came with the request.
    #[error("no credential was presented")]
    Missing,
    /// The credential is not valid. Never says why.
    #[error("the credential is not valid")]
    Invalid,
    /// Too many failures from this address or for this token.
    #[error("too many failed attempts; try again in {} s", retry_after.as_secs())]
    Locked {
        /// When to try again.
        retry_after: Duration,
    },
}

/// Checks credentials. Clones share its tables.
#[derive(Clone)]
pub struct Authenticator {
    tokens: TokenTable,
    guesses: Arc<Lockout>,
    /// Bounds the audit rows that an address without any credential can cause.
    silent: Arc<Lockout>,
    clock: Arc<dyn Clock>,
    audit: Arc<dyn AuditSink>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// An authenticator over these tokens.
    pub fn new(tokens: TokenTable, clock: Arc<dyn Clock>, audit: Arc<dyn AuditSink>) -> Self {
        Self {
            tokens,
            guesses: Arc::new(Lockout::default()),
            silent: Arc::new(Lockout::default()),
            clock,
            audit,
        }
    }

    /// The tokens, to be replaced at a reload and watched by long-lived connections.
    pub const fn tokens(&self) -> &TokenTable {
        &self.tokens
    }

    /// Whether somebody who was recognised still has every right that they had then.
    pub fn still_stands(&self, token: &TokenRef, principal: &Principal) -> bool {
        let now = self.tokens.current(token, self.clock.now());
        now.is_some_and(|now| now.still_has(principal))
    }

    /// Recognises a presented bearer token. A locked address or token id is refused before the
    /// token is looked at, so that a lock cannot be used to learn whether a guess was right.
    ///
    /// A request without any credential cannot guess, so it is refused and recorded but does not
    /// lock its address: a health check gone astray must not lock an operator out.
    ///
    /// # Errors
    /// [`AuthError`], logged, counted and audited.
    pub fn authenticate(
        &self,
        presented: Option<&str>,
        address: IpAddr,
        request_id: &str,
    ) -> Result<Verified, AuthError> {
        let now = self.clock.now();
        let from = Subject::address(address);
        let Some(presented) = presented else {
            let is_news = self.silent.fail(&[from], now);
            self.refused("missing", is_news, address, None, request_id);
            return Err(AuthError::Missing);
        };
        let id = token_id(presented);
        let mut subjects = vec![from];
        subjects.extend(id.map(Subject::token));
        if let Some(retry_after) = self.guesses.locked(&subjects, now) {
            self.refused("locked", false, address, id, request_id);
            return Err(AuthError::Locked { retry_after });
        }
        if let Some(verified) = self.tokens.verify(presented, now) {
            return Ok(verified);
        }
        let is_news = self.guesses.fail(&subjects, now);
        self.refused("invalid", is_news, address, id, request_id);
        Err(AuthError::Invalid)
    }

    fn refused(
        &self,
        reason: &'static str,
        is_news: bool,
        address: IpAddr,
        token_id: Option<&str>,
        request_id: &str,
    ) {
        metrics::counter!("agent_runtime_auth_failures_total", "reason" => reason).increment(1);
        if !is_news {
            // The same address goes on: the counter shows it, the log and the trail stay bounded.
            tracing::debug!(%address, token_id, reason, request_id, "authentication failed");
            return;
        }
        tracing::warn!(%address, token_id, reason, request_id, "authentication failed");
        self.audit.record(AuditEntry {
            kind: AuditKind::AuthFailed,
            actor: "unknown".to_owned(),
            surface: Surface::Api,
            run_id: None,
            request_id: Some(request_id.to_owned()),
            data: json!({ "reason": reason, "address": address, "token_id": token_id }),
        });
    }
}

#[cfg(test)]
mod tests;
