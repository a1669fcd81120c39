//! What is stored about a person: names, conversations, runs, calls that wrote files.

use super::{
    super::{
        cols::Cols,
        db::{Row, query},
        error::StoreError,
    },
    Erasures,
};
use crate::domain::{ConversationId, PrincipalId, RunId, Timestamp, ToolOutcome};

/// A run of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOfPerson {
    /// The run.
    pub id: RunId,
    /// Where.
    pub conversation: ConversationId,
    /// Its agent's name.
    pub agent: String,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// A call that wrote a file, started a program, or may have.
#[derive(Clone, Debug, PartialEq)]
pub struct FileCall {
    /// The tool.
    pub tool: String,
    /// Its arguments (JSON).
    pub args: String,
    /// What became of it; none while nobody knows.
    pub outcome: Option<ToolOutcome>,
    /// It was over by then: the model's next answer, or the end of the run; none while it goes on.
    pub before: Option<Timestamp>,
}

impl Erasures<'_> {
    /// The accounts, with what they are shown as, that are or were linked to a person; ids of the
    /// links and of the tokens too, and the public part of these.
    pub async fn known_as(
        &mut self,
        person: PrincipalId,
    ) -> Result<(Vec<(String, String)>, Vec<String>), StoreError> {
        let failed = || StoreError::unavailable("read what a person is known as");
        let rows = query("SELECT id, platform, account, display FROM links WHERE principal = $1")
            .bind(person.to_string())
            .fetch_all(&mut *self.conn)
            .await
            .map_err(failed())?;
        let (mut accounts, mut names) = (Vec::new(), Vec::new());
        for row in &rows {
            let mut c = Cols::new(row);
            names.push(c.text()?);
            let (platform, account) = (c.text()?, c.text()?);
            names.push(account.clone());
            names.extend(c.raw::<Option<String>>()?);
            accounts.push((platform, account));
        }
        let rows = query("SELECT id, public_id, label FROM tokens WHERE principal = $1")
            .bind(person.to_string())
            .fetch_all(&mut *self.conn)
            .await
            .map_err(failed())?;
        for row in &rows {
            let mut c = Cols::new(row);
            names.push(c.text()?);
            names.push(c.text()?);
            names.extend(c.raw::<Option<String>>()?);
        }
        Ok((accounts, names))
    }

    /// Whether anything is stored about a person: a row of their own, a conversation, a run.
    pub async fn is_known(&mut self, person: PrincipalId) -> Result<bool, StoreError> {
        let found = query(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM principals WHERE id = $1) \
             OR EXISTS (SELECT 1 FROM principal_seen WHERE principal = $1) \
             OR EXISTS (SELECT 1 FROM conversations WHERE principal = $1) \
             OR EXISTS (SELECT 1 FROM runs WHERE principal = $1) \
             OR EXISTS (SELECT 1 FROM tokens WHERE principal = $1) \
             OR EXISTS (SELECT 1 FROM links WHERE principal = $1)",
        )
        .bind(person.to_string())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for a person"))?;
        Ok(found.is_some())
    }

    /// Runs that have not ended and are a person's, or stand in a conversation of theirs.
    pub async fn unended(
        &mut self,
        person: PrincipalId,
        limit: u32,
    ) -> Result<Vec<RunId>, StoreError> {
        let rows = query(
            "SELECT id FROM runs WHERE state IN ('queued', 'running', 'awaiting_approval', \
             'paused', 'cancelling') AND (principal = $1 OR conversation_id IN \
             (SELECT id FROM conversations WHERE principal = $1)) ORDER BY id LIMIT $2",
        )
        .bind(person.to_string())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for a person's runs"))?;
        rows.iter().map(|row| Cols::new(row).parsed()).collect()
    }

    /// Conversations of a person, deleted ones too, from behind one on.
    pub async fn conversations(
        &mut self,
        person: PrincipalId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ConversationId>, StoreError> {
        let rows = query(
            "SELECT id FROM conversations WHERE principal = $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(person.to_string())
        .bind(after.to_owned())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read a person's conversations"))?;
        rows.iter().map(|row| Cols::new(row).parsed()).collect()
    }

    /// Runs of a person, from behind one on.
    pub async fn runs(
        &mut self,
        person: PrincipalId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<RunOfPerson>, StoreError> {
        let rows = query(
            "SELECT id, conversation_id, agent, ended_at FROM runs \
             WHERE principal = $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(person.to_string())
        .bind(after.to_owned())
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read a person's runs"))?;
        let run = |row: &Row| {
            let mut c = Cols::new(row);
            Ok(RunOfPerson {
                id: c.parsed()?,
                conversation: c.parsed()?,
                agent: c.text()?,
                ended_at: c.time_opt()?,
            })
        };
        rows.iter().map(run).collect()
    }

    /// Calls of a run that wrote files or started programs, or may have.
    pub async fn calls_on_files(&mut self, run: RunId) -> Result<Vec<FileCall>, StoreError> {
        let rows = query(
            "SELECT c.tool, c.args, c.outcome, COALESCE(s.at, r.ended_at) FROM tool_calls c \
             JOIN runs r ON r.id = c.run_id \
             LEFT JOIN steps s ON s.run_id = c.run_id AND s.n = c.step + 1 \
             WHERE c.run_id = $1 AND c.attempts > 0 \
             AND c.tool IN ('write_file', 'edit_file', 'exec', 'shell') ORDER BY c.step, c.idx",
        )
        .bind(run.to_string())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read the calls of a run"))?;
        let call = |row: &Row| {
            let mut c = Cols::new(row);
            Ok(FileCall {
                tool: c.text()?,
                args: c.text()?,
                outcome: c.json_opt()?,
                before: c.time_opt()?,
            })
        };
        rows.iter().map(call).collect()
    }

    /// Whether a run is a person's or stands in a conversation of theirs; none where there is no
    /// such run.
    pub async fn is_theirs(
        &mut self,
        run: RunId,
        person: PrincipalId,
    ) -> Result<Option<bool>, StoreError> {
        let found = query(
            "SELECT CAST(CASE WHEN r.principal = $2 OR c.principal = $2 THEN 1 ELSE 0 END AS BIGINT) \
             FROM runs r LEFT JOIN conversations c ON c.id = r.conversation_id WHERE r.id = $1",
        )
        .bind(run.to_string())
        .bind(person.to_string())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look whose run it is"))?;
        found.map(|row| Cols::new(&row).flag()).transpose()
    }

    /// Conversations that were forked from a conversation, whosever they are.
    pub async fn forks_of(
        &mut self,
        conversation: ConversationId,
    ) -> Result<Vec<ConversationId>, StoreError> {
        let rows = query(
            "SELECT id FROM conversations WHERE forked_from IN (SELECT b.id FROM runs r \
             JOIN bundles b ON b.run_id = r.id WHERE r.conversation_id = $1) ORDER BY id",
        )
        .bind(conversation.to_string())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for forks of a conversation"))?;
        rows.iter().map(|row| Cols::new(row).parsed()).collect()
    }
}
