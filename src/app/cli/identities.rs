//! `principal …` and `token …`: who may act. Speaks to the daemon's admin door.

use std::process::ExitCode;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    Context, Failure,
    args::{
        self, CreatePrincipal, CreateToken, ListTokens, Narrow, OnePrincipal, RevokeToken, Stale,
        UpdatePrincipal,
    },
    door::{Door, read, refused},
    out::{self, short},
    runs::encoded,
};
use crate::{app::client::Page, auth::authn::principal_id_of, domain::PrincipalId};

const PRINCIPALS: &str = "/admin/v1/principals";
const TOKENS: &str = "/admin/v1/tokens";
/// Characters of a name in a table.
const NAME_CHARS: usize = 40;

#[derive(Debug, Deserialize)]
struct Person {
    id: String,
    name: String,
    role: String,
    scopes: Map<String, Value>,
    source: String,
    disabled_at: Option<String>,
    last_seen_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Token {
    id: String,
    principal: String,
    label: Option<String>,
    role: String,
    scopes: Map<String, Value>,
    expires_at: Option<String>,
    last_used_at: Option<String>,
    revoked_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Unused {
    kind: String,
    id: String,
    name: String,
    last_seen_at: Option<String>,
    remedy: String,
}

pub(super) async fn principal(
    context: &Context,
    command: args::Principal,
) -> Result<ExitCode, Failure> {
    let door = Door::open(context)?;
    match command {
        args::Principal::List(output) => list(&door, output.json).await,
        args::Principal::Show(one) => show(&door, one).await,
        args::Principal::Create(new) => create(&door, new).await,
        args::Principal::Update(patch) => update(&door, patch).await,
        args::Principal::Disable(one) => switch(&door, one, "disable").await,
        args::Principal::Enable(one) => switch(&door, one, "enable").await,
        args::Principal::Stale(stale) => self::stale(&door, stale).await,
    }
}

pub(super) async fn token(context: &Context, command: args::Token) -> Result<ExitCode, Failure> {
    let door = Door::open(context)?;
    match command {
        args::Token::Create(new) => create_token(&door, *new).await,
        args::Token::List(list) => list_tokens(&door, list).await,
        args::Token::Revoke(revoke) => revoke_token(&door, revoke).await,
    }
}

/// Every item of a list, page by page.
pub(super) async fn all(door: &Door, path: &str) -> Result<Vec<Value>, Failure> {
    let joint = if path.contains('?') { '&' } else { '?' };
    let mut items: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page: Page<Value> =
            door.client.get(&format!("{path}{joint}limit=500{cursor}")).await.map_err(refused)?;
        items.extend(page.items);
        match page.next_cursor {
            Some(next) => cursor = format!("&cursor={}", encoded(&next)),
            None => return Ok(items),
        }
    }
}

/// Prints a list as JSON, or as the table that `show` makes of it.
pub(super) fn print<T: DeserializeOwned>(
    items: Vec<Value>,
    is_json: bool,
    show: impl FnOnce(&[T]),
) -> Result<ExitCode, Failure> {
    if is_json {
        out::json(&json!({ "items": items, "next_cursor": null }));
    } else {
        let items = items.into_iter().map(read).collect::<Result<Vec<T>, _>>()?;
        show(&items);
    }
    Ok(ExitCode::SUCCESS)
}

/// The id of somebody who is named.
async fn id_of(door: &Door, named: &str) -> Result<String, Failure> {
    let people = all(door, PRINCIPALS).await?;
    let text = |person: &Value, field: &str| {
        person.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut found = people.iter().filter(|p| text(p, "id") == named || text(p, "name") == named);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(text(one, "id")),
        (Some(_), Some(_)) => Err(Failure::usage(format!("more than one is called `{named}`"))
            .next("name one by the id; `agent-runtime principal list` shows them")),
        (None, _) => Err(Failure::fault(format!("there is no principal `{named}`"))
            .next("`agent-runtime principal list` shows them all")),
    }
}

/// The id of a person who may be known by their rows alone: an id as it is, a name as it is known or
/// as the configuration's would be.
pub(super) async fn person_id(door: &Door, named: &str) -> Result<String, Failure> {
    if named.parse::<PrincipalId>().is_ok() {
        return Ok(named.to_owned());
    }
    match id_of(door, named).await {
        Ok(id) => Ok(id),
        Err(_) => Ok(principal_id_of(named).to_string()),
    }
}

/// What the options say of scopes; none where they say nothing.
fn narrowed(narrow: &Narrow) -> Option<Value> {
    if let Some(scopes) = &narrow.scopes {
        return Some(json!(scopes));
    }
    let lists = [
        ("agents", &narrow.agents),
        ("tools", &narrow.tools),
        ("surfaces", &narrow.surfaces),
        ("conversations", &narrow.conversations),
    ];
    let given: Map<String, Value> = lists
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| (name.to_owned(), json!(list)))
        .collect();
    (!given.is_empty()).then_some(Value::Object(given))
}

/// Scopes on one line.
fn scope_text(scopes: &Map<String, Value>) -> String {
    if scopes.is_empty() {
        return "-".to_owned();
    }
    let list = |(name, list): (&String, &Value)| {
        let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
        let items = if items.is_empty() { "none".to_owned() } else { items.join(",") };
        format!("{name}={items}")
    };
    short(&scopes.iter().map(list).collect::<Vec<_>>().join(" "), 80)
}

fn or_never(moment: Option<&String>) -> String {
    moment.map_or_else(|| "never".to_owned(), Clone::clone)
}

async fn list(door: &Door, is_json: bool) -> Result<ExitCode, Failure> {
    print(all(door, PRINCIPALS).await?, is_json, |people: &[Person]| {
        let row = |p: &Person| {
            let state = if p.disabled_at.is_some() { "disabled" } else { "enabled" };
            [
                p.id.clone(),
                short(&p.name, NAME_CHARS),
                p.role.clone(),
                state.to_owned(),
                p.source.clone(),
                or_never(p.last_seen_at.as_ref()),
                scope_text(&p.scopes),
            ]
        };
        let rows: Vec<_> = people.iter().map(row).collect();
        out::table(["ID", "NAME", "ROLE", "STATE", "FROM", "LAST SEEN", "SCOPES"], &rows);
    })
}

fn say(done: &str, value: &Value, is_json: bool) -> Result<ExitCode, Failure> {
    if is_json {
        out::json(value);
        return Ok(ExitCode::SUCCESS);
    }
    let p: Person = read(value.clone())?;
    let state = if p.disabled_at.is_some() { ", disabled" } else { "" };
    let name = short(&p.name, NAME_CHARS);
    let scopes = scope_text(&p.scopes);
    out::line(format_args!("{done}{}  {name} {}{state}, scopes {scopes}", p.id, p.role));
    Ok(ExitCode::SUCCESS)
}

async fn show(door: &Door, one: OnePrincipal) -> Result<ExitCode, Failure> {
    let id = id_of(door, &one.principal).await?;
    let found: Value = door.client.get(&format!("{PRINCIPALS}/{id}")).await.map_err(refused)?;
    say("", &found, one.output.json)
}

async fn create(door: &Door, new: CreatePrincipal) -> Result<ExitCode, Failure> {
    let scopes = narrowed(&new.narrow).unwrap_or_else(|| json!({}));
    let body = json!({ "name": new.name, "role": new.role, "scopes": scopes });
    let made: Value = door.client.post(PRINCIPALS, &body).await.map_err(refused)?;
    say("created  ", &made, new.output.json)?;
    if !new.output.json {
        out::note(format_args!(
            "they may act once they have a token: agent-runtime token create {}",
            short(&new.name, NAME_CHARS)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn update(door: &Door, patch: UpdatePrincipal) -> Result<ExitCode, Failure> {
    let scopes = if patch.no_scopes { Some(json!({})) } else { narrowed(&patch.narrow) };
    if patch.role.is_none() && scopes.is_none() {
        return Err(Failure::usage("nothing to change: give --role, scopes or --no-scopes"));
    }
    let mut body = Map::new();
    body.extend(patch.role.map(|role| ("role".to_owned(), json!(role))));
    body.extend(scopes.map(|scopes| ("scopes".to_owned(), scopes)));
    let id = id_of(door, &patch.principal).await?;
    let place = format!("{PRINCIPALS}/{id}");
    let now: Value = door.client.patch(&place, &Value::Object(body)).await.map_err(refused)?;
    say("changed  ", &now, patch.output.json)
}

async fn switch(door: &Door, one: OnePrincipal, verb: &str) -> Result<ExitCode, Failure> {
    let id = id_of(door, &one.principal).await?;
    let path = format!("{PRINCIPALS}/{id}/{verb}");
    let now: Value = door.client.post(&path, &json!({})).await.map_err(refused)?;
    say(&format!("{verb}d  "), &now, one.output.json)
}

async fn stale(door: &Door, asked: Stale) -> Result<ExitCode, Failure> {
    let items = all(door, &format!("{PRINCIPALS}/stale?days={}", asked.days)).await?;
    print(items, asked.output.json, |unused: &[Unused]| {
        let row = |u: &Unused| {
            [
                u.kind.clone(),
                short(&u.name, NAME_CHARS),
                or_never(u.last_seen_at.as_ref()),
                u.id.clone(),
                u.remedy.clone(),
            ]
        };
        let rows: Vec<_> = unused.iter().map(row).collect();
        out::table(["KIND", "NAME", "LAST SEEN", "ID", "TO END IT"], &rows);
    })
}

async fn create_token(door: &Door, new: CreateToken) -> Result<ExitCode, Failure> {
    let body = json!({
        "principal": new.principal, "label": new.label, "role": new.role,
        "scopes": narrowed(&new.narrow).unwrap_or_else(|| json!({})), "ttl_secs": new.expires,
    });
    let made: Value = door.client.post(TOKENS, &body).await.map_err(refused)?;
    if new.output.json {
        out::json(&made);
        return Ok(ExitCode::SUCCESS);
    }
    out::line(made.get("token").and_then(Value::as_str).unwrap_or_default());
    let t: Token = read(made)?;
    let until = t.expires_at.map_or_else(String::new, |at| format!(", until {at}"));
    out::note(format_args!("{} for {} as {}{until}", t.id, short(&new.principal, 80), t.role));
    out::note("this is the only time that the token is shown: keep it in a file with mode 0600");
    Ok(ExitCode::SUCCESS)
}

async fn list_tokens(door: &Door, list: ListTokens) -> Result<ExitCode, Failure> {
    let path = match &list.principal {
        Some(named) => format!("{TOKENS}?principal={}", encoded(&id_of(door, named).await?)),
        None => TOKENS.to_owned(),
    };
    print(all(door, &path).await?, list.output.json, |tokens: &[Token]| {
        let row = |t: &Token| {
            let state = if t.revoked_at.is_some() { "revoked" } else { "in force" };
            [
                t.id.clone(),
                t.principal.clone(),
                t.label.as_deref().map_or_else(|| "-".to_owned(), |l| short(l, NAME_CHARS)),
                t.role.clone(),
                state.to_owned(),
                or_never(t.expires_at.as_ref()),
                or_never(t.last_used_at.as_ref()),
                scope_text(&t.scopes),
            ]
        };
        let rows: Vec<_> = tokens.iter().map(row).collect();
        out::table(
            ["ID", "PRINCIPAL", "LABEL", "ROLE", "STATE", "EXPIRES", "LAST USED", "SCOPES"],
            &rows,
        );
    })
}

async fn revoke_token(door: &Door, revoke: RevokeToken) -> Result<ExitCode, Failure> {
    let id = revoke.token;
    door.client.delete(&format!("{TOKENS}/{id}")).await.map_err(refused)?;
    if revoke.output.json {
        out::json(&json!({ "id": id, "revoked": true }));
    } else {
        out::line(format_args!("revoked  {id}"));
    }
    Ok(ExitCode::SUCCESS)
}
