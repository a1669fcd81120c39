//! The replicas of the database.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, schema};
use crate::{
    auth::Inspect,
    http::kit::{Operator, Problem, problem::code},
    orchestrator::{CommandError, ReplicaView},
};

/// A daemon that works, or worked, on this database.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Replica)]
pub(super) struct View {
    /// Which start of a daemon it is.
    boot_epoch: u64,
    /// `starting`, `working`, `draining`, `late` (its lease is over and nobody has taken it over yet)
    /// or `ended`.
    state: &'static str,
    /// Whether it is the one that answers.
    is_this: bool,
    /// The name of its machine.
    name: String,
    /// Where it answers.
    address: String,
    /// Its program's version.
    version: String,
    /// The newest migration that its program knows.
    schema: u64,
    /// When it joined.
    #[schema(value_type = String)]
    started_at: String,
    /// When the database last heard of it.
    #[schema(value_type = String)]
    beat_at: String,
    /// The newest change that is in force there; none while it starts.
    seen_generation: Option<u64>,
    /// What it does for all: `audit_checkpoints`, `forgetting`, `backups`.
    duties: Vec<&'static str>,
}

impl From<ReplicaView> for View {
    fn from(view: ReplicaView) -> Self {
        let ReplicaView { replica, state, is_this, duties } = view;
        let (name, address, version) =
            (replica.about.name, replica.about.address, replica.about.version);
        Self {
            boot_epoch: replica.boot_epoch,
            state,
            is_this,
            name,
            address,
            version,
            schema: replica.about.schema,
            started_at: replica.started_at.to_string(),
            beat_at: replica.beat_at.to_string(),
            seen_generation: replica.seen_generation,
            duties,
        }
    }
}

/// Every replica that lives, and the last ones that have ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Replicas {
    /// Newest first.
    items: Vec<View>,
}

/// Lists the daemons that share this database.
#[utoipa::path(get, path = "/admin/v1/replicas", tag = "health",
    responses((status = 200, body = Replicas), (status = "default", body = schema::Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    operator: Operator,
) -> Result<Json<Replicas>, Problem> {
    let permit = app.authorizer().manage::<Inspect>(&operator.cx)?;
    let found = app.orchestrator().replicas(&permit).await;
    let found = found.map_err(|e| Problem::of_command(CommandError::from(e), &code::NOT_FOUND))?;
    Ok(Json(Replicas { items: found.into_iter().map(View::from).collect() }))
}
