//! `pair …` and `link …`: accounts of chat platforms. Speaks to the daemon's admin door.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Context, Failure,
    args::{
        self, ApprovePairing, DenyPairing, ListPairings, RequestPairing, ResolveLink, RevokeLink,
    },
    door::{Door, read, refused},
    identities::{all, print},
    out::{self, short},
    runs::encoded,
};

const PAIRINGS: &str = "/admin/v1/pairings";
const LINKS: &str = "/admin/v1/links";
/// Characters of a name in a table.
const NAME_CHARS: usize = 40;

#[derive(Debug, Deserialize)]
struct Pairing {
    id: String,
    platform: String,
    account: String,
    display: Option<String>,
    state: String,
    expires_at: String,
}

#[derive(Debug, Deserialize)]
struct Link {
    id: String,
    platform: String,
    account: String,
    display: Option<String>,
    principal: String,
    role: String,
    last_seen_at: Option<String>,
    revoked_at: Option<String>,
}

pub(super) async fn pair(context: &Context, command: args::Pair) -> Result<ExitCode, Failure> {
    let door = Door::open(context)?;
    match command {
        args::Pair::Request(request) => self::request(&door, request).await,
        args::Pair::List(list) => self::list(&door, list).await,
        args::Pair::Approve(approve) => self::approve(&door, approve).await,
        args::Pair::Deny(deny) => self::deny(&door, deny).await,
    }
}

pub(super) async fn link(context: &Context, command: args::Link) -> Result<ExitCode, Failure> {
    let door = Door::open(context)?;
    match command {
        args::Link::List(output) => links(&door, output.json).await,
        args::Link::Resolve(resolve) => self::resolve(&door, resolve).await,
        args::Link::Revoke(revoke) => self::revoke(&door, revoke).await,
    }
}

fn name(display: Option<&String>) -> String {
    display.map_or_else(|| "-".to_owned(), |name| short(name, NAME_CHARS))
}

async fn request(door: &Door, request: RequestPairing) -> Result<ExitCode, Failure> {
    let RequestPairing { platform, account, name, output } = request;
    let body = json!({ "platform": platform, "account": account, "display": name });
    let made: Value = door.client.post(PAIRINGS, &body).await.map_err(refused)?;
    if output.json {
        out::json(&made);
        return Ok(ExitCode::SUCCESS);
    }
    out::line(made.get("code").and_then(Value::as_str).unwrap_or_default());
    let pairing: Pairing = read(made)?;
    out::note(format_args!(
        "{}: show the code to the account's holder alone; it is good until {}",
        pairing.id, pairing.expires_at
    ));
    Ok(ExitCode::SUCCESS)
}

async fn list(door: &Door, list: ListPairings) -> Result<ExitCode, Failure> {
    let query = list.state.map_or_else(String::new, |state| format!("?state={state}"));
    let items = all(door, &format!("{PAIRINGS}{query}")).await?;
    print(items, list.output.json, |pairings: &[Pairing]| {
        let row = |p: &Pairing| {
            [
                p.id.clone(),
                p.platform.clone(),
                short(&p.account, NAME_CHARS),
                name(p.display.as_ref()),
                p.state.clone(),
                p.expires_at.clone(),
            ]
        };
        let rows: Vec<_> = pairings.iter().map(row).collect();
        out::table(["ID", "PLATFORM", "ACCOUNT", "NAME", "STATE", "CODE GOOD UNTIL"], &rows);
    })
}

async fn approve(door: &Door, approve: ApprovePairing) -> Result<ExitCode, Failure> {
    let ApprovePairing { code, role, principal, new_name, output } = approve;
    let body = json!({ "code": code, "role": role, "principal": principal, "name": new_name });
    let path = format!("{PAIRINGS}/approve");
    let done: Value = door.client.post(&path, &body).await.map_err(refused)?;
    if output.json {
        out::json(&done);
        return Ok(ExitCode::SUCCESS);
    }
    let link: Link = read(done.get("link").cloned().unwrap_or_default())?;
    let account = short(&link.account, NAME_CHARS);
    out::line(format_args!(
        "linked  {}  {} {account} as {}, {}",
        link.id, link.platform, link.principal, link.role
    ));
    Ok(ExitCode::SUCCESS)
}

async fn deny(door: &Door, deny: DenyPairing) -> Result<ExitCode, Failure> {
    let body = json!({ "reason": deny.reason });
    let path = format!("{PAIRINGS}/{}/deny", deny.pairing);
    let done: Value = door.client.post(&path, &body).await.map_err(refused)?;
    if deny.output.json {
        out::json(&done);
    } else {
        out::line(format_args!("denied  {}", deny.pairing));
    }
    Ok(ExitCode::SUCCESS)
}

async fn links(door: &Door, is_json: bool) -> Result<ExitCode, Failure> {
    print(all(door, LINKS).await?, is_json, |links: &[Link]| {
        let row = |l: &Link| {
            let state = if l.revoked_at.is_some() { "revoked" } else { "in force" };
            [
                l.id.clone(),
                l.platform.clone(),
                short(&l.account, NAME_CHARS),
                name(l.display.as_ref()),
                l.principal.clone(),
                l.role.clone(),
                state.to_owned(),
                l.last_seen_at.clone().unwrap_or_else(|| "never".to_owned()),
            ]
        };
        let rows: Vec<_> = links.iter().map(row).collect();
        out::table(
            ["ID", "PLATFORM", "ACCOUNT", "NAME", "PRINCIPAL", "ROLE", "STATE", "LAST SEEN"],
            &rows,
        );
    })
}

async fn resolve(door: &Door, resolve: ResolveLink) -> Result<ExitCode, Failure> {
    let (platform, account) = (encoded(&resolve.platform), encoded(&resolve.account));
    let path = format!("{LINKS}/resolve?platform={platform}&account={account}");
    let found: Value = door.client.get(&path).await.map_err(refused)?;
    if resolve.output.json {
        out::json(&found);
        return Ok(ExitCode::SUCCESS);
    }
    let text = |field: &str| found.get(field).and_then(Value::as_str).unwrap_or_default();
    out::line(format_args!("{}  {} {}", text("id"), short(text("name"), 80), text("role")));
    Ok(ExitCode::SUCCESS)
}

async fn revoke(door: &Door, revoke: RevokeLink) -> Result<ExitCode, Failure> {
    let id = revoke.link;
    door.client.delete(&format!("{LINKS}/{id}")).await.map_err(refused)?;
    if revoke.output.json {
        out::json(&json!({ "id": id, "revoked": true }));
    } else {
        out::line(format_args!("revoked  {id}"));
    }
    Ok(ExitCode::SUCCESS)
}
