//! `principal …`, `token …`, `pair …`, `link …`.

use clap::{Args, Subcommand};

use super::Output;
use crate::domain::{LinkId, PairingId, Role, Scopes, TokenId};

#[derive(Debug, Subcommand)]
#[command(after_help = "\
A principal is a person or program that may act. Those of the configuration ([[auth.tokens]]) are
here too: the configuration is their ceiling, and what is changed here narrows them. Roles, least
first: viewer, member, operator, admin, overlord. Scopes narrow a role to agents, tools, surfaces
(api, admin) or conversations. Administrators deal with everybody up to operator, an overlord with
everybody, nobody with themselves. Who may use <data_dir>/admin.sock is the local operator, an
overlord that nothing here can lock out. Every change is in the audit trail and in force at once:
connections whose rights shrank are cut.

Examples:
  agent-runtime principal list
  agent-runtime principal create ann --role member
  agent-runtime principal create ci --role member --agent builder --tool read_file --tool exec
  agent-runtime principal update ann --role operator
  agent-runtime principal update ci --no-scopes
  agent-runtime principal disable ann
  agent-runtime principal stale --days 90")]
pub(crate) enum Principal {
    /// List everybody, with their role, scopes and when they were here last
    List(Output),
    /// Show one
    Show(OnePrincipal),
    /// Create somebody; they may act once they have a token or a linked account
    Create(CreatePrincipal),
    /// Change somebody's role or scopes
    Update(UpdatePrincipal),
    /// End somebody's right to act: tokens, links and open connections
    Disable(OnePrincipal),
    /// Give somebody who was disabled their right to act back
    Enable(OnePrincipal),
    /// List principals, tokens and links that nobody used for a while
    Stale(Stale),
}

#[derive(Debug, Args)]
pub(crate) struct OnePrincipal {
    /// Their name or id
    #[arg(value_name = "NAME|ID")]
    pub(crate) principal: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What narrows a role.
#[derive(Debug, Args, Clone)]
pub(crate) struct Narrow {
    /// Only this agent; may be repeated
    #[arg(long = "agent", value_name = "AGENT")]
    pub(crate) agents: Vec<String>,
    /// Only this tool; may be repeated
    #[arg(long = "tool", value_name = "TOOL")]
    pub(crate) tools: Vec<String>,
    /// Only through this surface (api, admin); may be repeated
    #[arg(long = "surface", value_name = "SURFACE")]
    pub(crate) surfaces: Vec<String>,
    /// Only in this conversation, no new ones; may be repeated
    #[arg(long = "conversation", value_name = "ID")]
    pub(crate) conversations: Vec<String>,
    /// The scopes as JSON, where a list shall be empty: {"tools":[]} leaves no tool
    #[arg(long, value_name = "JSON", value_parser = scopes,
        conflicts_with_all = ["agents", "tools", "surfaces", "conversations"])]
    pub(crate) scopes: Option<Scopes>,
}

fn scopes(text: &str) -> Result<Scopes, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  agent-runtime principal create ann --role member
  agent-runtime principal create ci --role member --agent builder --tool read_file")]
pub(crate) struct CreatePrincipal {
    /// What people call them; no two share a name
    pub(crate) name: String,
    /// Their standing: viewer, member, operator, admin or overlord
    #[arg(long)]
    pub(crate) role: Role,
    #[command(flatten)]
    pub(crate) narrow: Narrow,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Scopes that are given replace the old ones as a whole.

Examples:
  agent-runtime principal update ann --role operator
  agent-runtime principal update ci --agent builder --agent reader")]
pub(crate) struct UpdatePrincipal {
    /// Their name or id
    #[arg(value_name = "NAME|ID")]
    pub(crate) principal: String,
    /// Their new standing
    #[arg(long)]
    pub(crate) role: Option<Role>,
    #[command(flatten)]
    pub(crate) narrow: Narrow,
    /// Narrow nothing any more
    #[arg(long, conflicts_with_all = ["agents", "tools", "surfaces", "conversations", "scopes"])]
    pub(crate) no_scopes: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Stale {
    /// Not seen for this many days
    #[arg(long, default_value_t = 90)]
    pub(crate) days: u32,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
A token stands for a principal and gives at most their role, less where the token says less. Only a
hash is kept, so its text is shown once. `use` of a token is noted at most a minute late.

Examples:
  agent-runtime token create ann --label laptop --expires 90d
  agent-runtime token create ci --role viewer --label dashboard
  agent-runtime token list --principal ann
  agent-runtime token revoke tok_01…")]
pub(crate) enum Token {
    /// Make a token; its text is printed once
    Create(Box<CreateToken>),
    /// List tokens without their secrets
    List(ListTokens),
    /// Take a token back; its connections are cut at once
    Revoke(RevokeToken),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Prints the token alone on standard output, so that it can be piped into a file:
  (umask 077; agent-runtime token create ann --expires 90d > ann.token)")]
pub(crate) struct CreateToken {
    /// Whom it stands for: a name or an id
    #[arg(value_name = "PRINCIPAL")]
    pub(crate) principal: String,
    /// What it is for
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// The most that it gives [default: the principal's role of now]
    #[arg(long)]
    pub(crate) role: Option<Role>,
    /// When it ends by itself: a number with m, h or d, such as 90d [default: never]
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub(crate) expires: Option<u64>,
    #[command(flatten)]
    pub(crate) narrow: Narrow,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `90d` in seconds.
fn span(text: &str) -> Result<u64, String> {
    let wrong = || "write a number with s, m, h or d, such as 90d".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let secs = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
    number.checked_mul(secs).ok_or_else(wrong)
}

#[derive(Debug, Args)]
pub(crate) struct ListTokens {
    /// Only those of this principal: a name or an id
    #[arg(long, value_name = "NAME|ID")]
    pub(crate) principal: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeToken {
    /// The token's id
    #[arg(value_name = "ID")]
    pub(crate) token: TokenId,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
An account of a chat platform acts only once it is linked. Its holder asks for a code (from a
connector, or here through your own bridge), tells it to an administrator, who approves it with a
role. A code is good for ten minutes and once; five wrong codes lock the one who tried them.

Examples:
  agent-runtime pair request --platform telegram --account 123 --name Ann
  agent-runtime pair list
  agent-runtime pair approve AAAQ-EAYE-AUDA-OCH7 --role member --as ann      somebody new
  agent-runtime pair approve AAAQ-EAYE-AUDA-OCH7 --role member --principal ann
  agent-runtime pair deny pair_01… --reason 'nobody we know'")]
pub(crate) enum Pair {
    /// Ask for an account to be linked; prints the code
    Request(RequestPairing),
    /// List requests
    List(ListPairings),
    /// Link the account whose holder has told you this code
    Approve(ApprovePairing),
    /// Refuse a request
    Deny(DenyPairing),
}

#[derive(Debug, Args)]
pub(crate) struct RequestPairing {
    /// The platform, such as telegram
    #[arg(long)]
    pub(crate) platform: String,
    /// The account's id there
    #[arg(long)]
    pub(crate) account: String,
    /// What the platform calls its holder
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ListPairings {
    /// Only those in this state: pending, approved, denied, voided, expired
    #[arg(long)]
    pub(crate) state: Option<crate::domain::PairingState>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ApprovePairing {
    /// The code
    pub(crate) code: String,
    /// The most that the account gives
    #[arg(long)]
    pub(crate) role: Role,
    /// Whom it stands for: a name or an id of somebody who is there
    #[arg(long, value_name = "NAME|ID")]
    pub(crate) principal: Option<String>,
    /// What somebody new is called [default: as on the platform]
    #[arg(long = "as", value_name = "NAME", conflicts_with = "principal")]
    pub(crate) new_name: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct DenyPairing {
    /// The request's id
    #[arg(value_name = "ID")]
    pub(crate) pairing: PairingId,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  agent-runtime link list
  agent-runtime link resolve --platform telegram --account 123
  agent-runtime link revoke lnk_01…")]
pub(crate) enum Link {
    /// List linked accounts
    List(Output),
    /// Say whom an account stands for; for a bridge of your own
    Resolve(ResolveLink),
    /// Take a link back; nothing from the account counts any more
    Revoke(RevokeLink),
}

#[derive(Debug, Args)]
pub(crate) struct ResolveLink {
    /// The platform, such as telegram
    #[arg(long)]
    pub(crate) platform: String,
    /// The account's id there
    #[arg(long)]
    pub(crate) account: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeLink {
    /// The link's id
    #[arg(value_name = "ID")]
    pub(crate) link: LinkId,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_with_a_unit() {
        assert_eq!(span("90d"), Ok(7_776_000));
        assert_eq!((span("1s"), span("12h"), span("5m")), (Ok(1), Ok(43_200), Ok(300)));
        for wrong in ["", "d", "90", "-1d", "0d", "1.5h", "1y", "99999999999999999999d", "1é"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert!(span(&format!("{}d", u64::MAX)).is_err());
    }
}
