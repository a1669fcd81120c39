//! Versions of the policy, and which one is in force. Nothing here is ever changed or removed.

use super::{
    cols::{self, Cols},
    db::{Conn, Row, query},
    error::StoreError,
    page::{Page, Paged},
};
use crate::domain::{
    PolicyActivation, PolicyInfo, PolicyOrigin, PolicyVersion, StoredPolicy, Timestamp,
};

/// Versions that a beginning may name before it is called unclear.
const ALIKE: i64 = 2;

/// Access to policies.
#[derive(Debug)]
pub struct Policies<'c> {
    pub(super) conn: &'c mut Conn,
}

/// What a text that names a version came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// It names this one.
    One(PolicyVersion),
    /// It is the beginning of several.
    Several,
    /// Nothing begins so.
    None,
}

impl Policies<'_> {
    /// A version with its text.
    pub async fn get(
        &mut self,
        version: &PolicyVersion,
    ) -> Result<Option<StoredPolicy>, StoreError> {
        let row = query(
            "SELECT n, version, note, created_at, created_by, source FROM policies \
             WHERE version = $1",
        )
        .bind(version.as_str().to_owned())
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("read a policy"))?;
        row.map(|row| {
            let mut c = Cols::new(&row);
            let info = info(&mut c)?;
            Ok(StoredPolicy { info, source: c.text()? })
        })
        .transpose()
    }

    /// The one version that begins with this text.
    pub async fn named(&mut self, beginning: &str) -> Result<Named, StoreError> {
        // `g` follows the last hexadecimal digit.
        let rows = query(
            "SELECT version FROM policies WHERE version >= $1 AND version < $2 \
             ORDER BY version LIMIT $3",
        )
        .bind(beginning.to_owned())
        .bind(format!("{beginning}g"))
        .bind(ALIKE)
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("look for a policy"))?;
        match rows.as_slice() {
            [] => Ok(Named::None),
            [one] => Ok(Named::One(Cols::new(one).parsed()?)),
            _ => Ok(Named::Several),
        }
    }

    /// Versions without their texts, newest first.
    pub async fn list(&mut self, page: &Page) -> Result<Paged<PolicyInfo>, StoreError> {
        let rows = query(
            "SELECT n, version, note, created_at, created_by FROM policies WHERE n < $1 \
             ORDER BY n DESC LIMIT $2",
        )
        .bind(cols::int(page.before_number()))
        .bind(page.rows())
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("list the policies"))?;
        let items = rows.iter().map(|row| info(&mut Cols::new(row))).collect::<Result<_, _>>()?;
        Ok(page.cut(items, |info: &PolicyInfo| info.n.to_string()))
    }

    /// Stores a version that is not there yet.
    pub async fn insert(
        &mut self,
        version: &PolicyVersion,
        source: &str,
        by: &str,
        note: Option<&str>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO policies (n, version, source, note, created_at, created_by) \
             SELECT COALESCE(MAX(n), 0) + 1, $1, $2, $3, $4, $5 FROM policies",
        )
        .bind(version.as_str().to_owned())
        .bind(source.to_owned())
        .bind(note.map(str::to_owned))
        .bind(at.as_micros())
        .bind(by.to_owned())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store a policy"))
    }

    /// The activation that is in force; none in a new store.
    pub async fn active(&mut self) -> Result<Option<PolicyActivation>, StoreError> {
        self.last(
            "SELECT n, version, origin, at, done_by, note FROM policy_activations \
                   ORDER BY n DESC LIMIT 1",
        )
        .await
    }

    /// The version that the configuration's file put in force last.
    pub async fn last_of_file(&mut self) -> Result<Option<PolicyActivation>, StoreError> {
        self.last(
            "SELECT n, version, origin, at, done_by, note FROM policy_activations \
                   WHERE origin = 'file' ORDER BY n DESC LIMIT 1",
        )
        .await
    }

    async fn last(&mut self, sql: &'static str) -> Result<Option<PolicyActivation>, StoreError> {
        let row = query(sql)
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read which policy is in force"))?;
        row.as_ref().map(activation).transpose()
    }

    /// The newest activations of a version, newest first.
    pub async fn activations(&mut self, limit: u32) -> Result<Vec<PolicyActivation>, StoreError> {
        let rows = query(
            "SELECT n, version, origin, at, done_by, note FROM policy_activations \
             ORDER BY n DESC LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StoreError::unavailable("list what was in force"))?;
        rows.iter().map(activation).collect()
    }

    /// Puts a version in force.
    pub async fn activate(&mut self, new: &PolicyActivation) -> Result<(), StoreError> {
        query(
            "INSERT INTO policy_activations (n, version, origin, at, done_by, note) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(cols::int(new.n))
        .bind(new.version.as_str().to_owned())
        .bind(new.origin.as_str())
        .bind(new.at.as_micros())
        .bind(new.done_by.clone())
        .bind(new.note.clone())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("put a policy in force"))
    }
}

fn info(c: &mut Cols<'_>) -> Result<PolicyInfo, StoreError> {
    Ok(PolicyInfo {
        n: c.number()?,
        version: c.parsed()?,
        note: c.raw()?,
        created_at: c.time()?,
        created_by: c.text()?,
    })
}

fn activation(row: &Row) -> Result<PolicyActivation, StoreError> {
    let mut c = Cols::new(row);
    Ok(PolicyActivation {
        n: c.number()?,
        version: c.parsed()?,
        origin: c.parsed::<PolicyOrigin>()?,
        at: c.time()?,
        done_by: c.text()?,
        note: c.raw()?,
    })
}
