//! Long parts that many rows have in common, stored once and named by their hash: what policy looks
//! at of an agent, the permissions of runs.
//!
//! Invariants: a body is never changed, and is what its hash says. A row that names one is written in
//! the transaction that has seen it there or has put it there.

use sha2::{Digest, Sha256};

use super::{
    db::{Conn, query},
    error::StoreError,
};
use crate::domain::Timestamp;

/// Access to definitions.
#[derive(Debug)]
pub struct Definitions<'c> {
    pub(super) conn: &'c mut Conn,
}

impl Definitions<'_> {
    /// Stores a body unless it is there; its hash.
    pub(super) async fn keep(&mut self, body: &str, at: Timestamp) -> Result<String, StoreError> {
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(body.as_bytes()));
        // Looked up first: most are there, and the body is long.
        let found = query("SELECT hash FROM definitions WHERE hash = $1")
            .bind(hash.clone())
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("look for a definition"))?;
        if found.is_none() {
            query(
                "INSERT INTO definitions (hash, body, created_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (hash) DO NOTHING",
            )
            .bind(hash.clone())
            .bind(body.to_owned())
            .bind(at.as_micros())
            .execute(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("store a definition"))?;
        }
        Ok(hash)
    }

    /// Forgets what was stored before `cutoff` and no row names any more, at most `limit` at a time;
    /// how many.
    pub async fn forget_unused(
        &mut self,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        query(
            "DELETE FROM definitions WHERE hash IN (SELECT d.hash FROM definitions d \
             WHERE d.created_at < $1 \
             AND NOT EXISTS (SELECT 1 FROM decisions WHERE decisions.definition = d.hash) \
             AND NOT EXISTS (SELECT 1 FROM capabilities WHERE capabilities.definition = d.hash) \
             ORDER BY d.hash LIMIT $2)",
        )
        .bind(cutoff.as_micros())
        .bind(i64::from(limit))
        .execute(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("forget definitions"))
    }
}

/// Characters of a capability's text before the part that runs of one agent share: its ids, times and
/// names.
const OWN_CHARS: usize = 519;
/// A shorter shared part is not worth a row.
const SHARED_CHARS_MIN: usize = 1_024;
/// Stands for the shared part; no text of a capability has it.
const SHARED: char = '*';

/// A capability's text without its shared part, and that part; none where it is short.
pub(super) fn without_shared(token: &str) -> Option<(String, &str)> {
    let (claims, mac) = token.rsplit_once('.')?;
    let (own, shared) = claims.split_at_checked(OWN_CHARS)?;
    (shared.len() >= SHARED_CHARS_MIN).then(|| (format!("{own}{SHARED}.{mac}"), shared))
}

/// The whole text again.
pub(super) fn with_shared(token: &str, shared: &str) -> String {
    token.replacen(SHARED, shared, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_whole_again_and_a_short_one_is_left_as_it_is() {
        let token = format!("cap_v1.{}.{}", "A".repeat(5_000), "mac");
        let (own, shared) = without_shared(&token).unwrap();
        assert!(own.len() < 600 && own.ends_with("*.mac"), "{own}");
        assert_eq!(with_shared(&own, shared), token);
        assert_eq!(without_shared(&format!("cap_v1.{}.mac", "A".repeat(1_000))), None);
        assert_eq!(without_shared("nothing of ours"), None);
        // What differs before the cut does not matter to what is shared.
        let other = format!("cap_v1.B{}.{}", "A".repeat(4_999), "cam");
        assert_eq!(without_shared(&other).unwrap().1, shared);
    }
}
