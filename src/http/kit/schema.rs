//! The shape of a problem, as every description of an API shows it.
#![expect(missing_docs, reason = "the fields are RFC 9457's")]

use utoipa::ToSchema;

#[derive(Debug, ToSchema)]
pub struct FieldError {
    #[schema(example = "/limits/timeout_secs")]
    pub pointer: String,
    pub detail: String,
}

/// RFC 9457.
#[derive(Debug, ToSchema)]
pub struct Problem {
    #[schema(example = "urn:agent-runtime:problem:run.terminal")]
    pub r#type: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    #[schema(example = "run.terminal")]
    pub code: String,
    pub request_id: String,
    #[schema(required = false)]
    pub errors: Vec<FieldError>,
    #[schema(required = false)]
    pub retry_after: u64,
}
