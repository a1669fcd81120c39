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
}

/// Access to it.
#[derive(Debug)]
pub struct ClusterIdentities<'c> {
    pub(super) conn: &'c mut Conn,
}

impl ClusterIdentities<'_> {
    /// As the first replica has stored it, or a later one that changed the secret.
    pub async fn get(&mut self) -> Result<Option<ClusterIdentity>, StoreError> {
        let row = query("SELECT cluster_id, secret_mac FROM cluster WHERE id = 1")
            .fetch_optional(&mut *self.conn)
            .await
            .map_err(StoreError::unavailable("read the identity of the cluster"))?;
        row.map(|row| {
            let mut c = Cols::new(&row);
            Ok(ClusterIdentity { id: c.text()?, secret_mac: c.text()? })
        })
        .transpose()
    }

    /// Stores it, in the place of what was there; the id stays as it is.
    pub async fn put(&mut self, identity: &ClusterIdentity) -> Result<(), StoreError> {
        query(
            "INSERT INTO cluster (id, cluster_id, secret_mac) VALUES (1, $1, $2) \
             ON CONFLICT (id) DO UPDATE SET secret_mac = excluded.secret_mac",
        )
        .bind(identity.id.clone())
        .bind(identity.secret_mac.clone())
        .execute(&mut *self.conn)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("store the identity of the cluster"))
    }
}
