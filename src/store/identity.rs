//! What all replicas have in common, to be compared at each start: one row.

use super::{
    cols::Cols,
    db::{Conn, query},
    error::StoreError,
};

/// What the replicas of one database have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterIdentity {
    /// Names the cluster for good.
    pub id: String,
    /// What the permission secret makes of that id.
    pub secret_mac: String,
    /// Whether some directory of workspaces bears the cluster's mark.
    pub has_workspaces: bool,
}

/// Access to it.
#[derive(Debug)]
pub struct ClusterIdentities<'c> {
    pub(super) conn: &'c mut Conn,
}

impl ClusterIdentities<'_> {
    /// As the first replica has stored it, or a later one that changed the secret.
    pub async fn get(&mut self) -> Result<Option<ClusterIdentity>, StoreError> {
        let row = query("SELECT cluster_id, secret_mac, has_workspaces FROM cluster WHERE id = 1")
            .fetch_optional(self.conn)
            .await
            .map_err(StoreError::unavailable("read the identity of the cluster"))?;
        row.map(|row| {
            let mut c = Cols::new(&row);
            Ok(ClusterIdentity { id: c.text()?, secret_mac: c.text()?, has_workspaces: c.flag()? })
        })
        .transpose()
    }

    /// Notes that a directory of workspaces bears the mark; whether none did before.
    pub async fn mark_workspaces(&mut self) -> Result<bool, StoreError> {
        query("UPDATE cluster SET has_workspaces = 1 WHERE id = 1 AND has_workspaces = 0")
            .execute(self.conn)
            .await
            .map(|rows| rows == 1)
            .map_err(StoreError::unavailable("note the directory of workspaces"))
    }

    /// Stores what the secret makes of the id; the rest stays as it is.
    pub async fn put(&mut self, identity: &ClusterIdentity) -> Result<(), StoreError> {
        query("UPDATE cluster SET secret_mac = $1 WHERE id = 1 AND cluster_id = $2")
            .bind(identity.secret_mac.clone())
            .bind(identity.id.clone())
            .execute(self.conn)
            .await
            .map(drop)
            .map_err(StoreError::unavailable("store the identity of the cluster"))
    }
}
