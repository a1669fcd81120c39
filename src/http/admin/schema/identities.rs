//! The shapes of answers about who may act.

use utoipa::ToSchema;

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Viewer,
    Member,
    Operator,
    Admin,
    Overlord,
}

/// What narrows a role. An absent list narrows nothing, an empty one leaves nothing.
#[derive(Debug, Default, serde::Serialize, ToSchema)]
pub struct Scopes {
    pub agents: Option<Vec<String>>,
    pub tools: Option<Vec<String>>,
    pub surfaces: Option<Vec<String>>,
    pub conversations: Option<Vec<String>>,
}

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalSource {
    Config,
    Stored,
    Local,
}

/// Somebody, as in force now.
#[derive(Debug, ToSchema)]
pub struct Principal {
    #[schema(example = "prn_01890a5d-ac96-774b-bcce-b302099a8057")]
    pub id: String,
    pub name: String,
    pub role: Role,
    pub scopes: Scopes,
    pub source: PrincipalSource,
    pub disabled_at: Option<String>,
    pub last_seen_at: Option<String>,
    pub created_at: Option<String>,
    pub created_by: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct PrincipalList {
    pub items: Vec<Principal>,
    pub next_cursor: Option<String>,
}

/// Whom an account stands for, with the rights that the link leaves.
#[derive(Debug, ToSchema)]
pub struct ActingPrincipal {
    pub id: String,
    pub name: String,
    pub role: Role,
    pub scopes: Scopes,
}

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StaleKind {
    Principal,
    Token,
    Link,
}

/// A right that was not used.
#[derive(Debug, ToSchema)]
pub struct Stale {
    pub kind: StaleKind,
    pub id: String,
    pub name: String,
    pub principal: String,
    pub last_seen_at: Option<String>,
    pub created_at: Option<String>,
    pub remedy: String,
}

#[derive(Debug, ToSchema)]
pub struct StaleList {
    pub items: Vec<Stale>,
    pub next_cursor: Option<String>,
}

/// A token without its secret.
#[derive(Debug, ToSchema)]
pub struct Token {
    #[schema(example = "tok_01890a5d-ac96-774b-bcce-b302099a8057")]
    pub id: String,
    pub public_id: String,
    pub principal: String,
    pub label: Option<String>,
    pub role: Role,
    pub scopes: Scopes,
    pub created_at: String,
    pub created_by: String,
    pub expires_at: Option<String>,
    pub last_used_at: Option<String>,
    pub revoked_at: Option<String>,
    pub revoked_by: Option<String>,
}

/// A token that was made: its text is shown here alone.
#[derive(Debug, ToSchema)]
pub struct NewToken {
    #[serde(flatten)]
    pub kept: Token,
    /// Null in the answer to a repeated request.
    pub token: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct TokenList {
    pub items: Vec<Token>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairingState {
    Pending,
    Approved,
    Denied,
    Voided,
    Expired,
}

/// A request to link an account, without its code.
#[derive(Debug, ToSchema)]
pub struct Pairing {
    #[schema(example = "pair_01890a5d-ac96-774b-bcce-b302099a8057")]
    pub id: String,
    pub platform: String,
    pub account: String,
    pub display: Option<String>,
    pub state: PairingState,
    pub created_at: String,
    pub expires_at: String,
    pub decided_at: Option<String>,
    pub decided_by: Option<String>,
    pub reason: Option<String>,
}

/// A request that was made: its code is shown here alone.
#[derive(Debug, ToSchema)]
pub struct NewPairing {
    #[serde(flatten)]
    pub kept: Pairing,
    /// Null in the answer to a repeated request.
    #[schema(example = "AAAQ-EAYE-AUDA-OCH7")]
    pub code: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct PairingList {
    pub items: Vec<Pairing>,
    pub next_cursor: Option<String>,
}

/// An account that stands for a principal.
#[derive(Debug, ToSchema)]
pub struct Link {
    #[schema(example = "lnk_01890a5d-ac96-774b-bcce-b302099a8057")]
    pub id: String,
    pub platform: String,
    pub account: String,
    pub display: Option<String>,
    pub principal: String,
    pub role: Role,
    pub created_at: String,
    pub created_by: String,
    pub last_seen_at: Option<String>,
    pub revoked_at: Option<String>,
    pub revoked_by: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct LinkList {
    pub items: Vec<Link>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct ApprovedPairing {
    pub pairing: Pairing,
    pub link: Link,
}
