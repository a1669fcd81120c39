//! `egress …`: which machines agents may reach. Speaks to the daemon's admin door; `list` also reads
//! what is kept where no daemon runs.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Context, Failure, Paint,
    args::{self, EgressAdd, EgressList, EgressRemove, EgressTest},
    door::{Closed, Door, read, refused},
    failure::FAULT,
    out::{self, short},
    runs::encoded,
};
use crate::{
    app::{build::fault, client::Page},
    domain::{EgressRuleId, EgressVerdict, host::split_port},
    orchestrator::EgressRuleView,
    store::ReadOnlyStore,
};

/// Where rules are.
const DOMAINS: &str = "/admin/v1/egress/domains";
/// Characters of a note in a table.
const NOTE_CHARS: usize = 40;

/// A rule, as the daemon shows it.
#[derive(Debug, Deserialize)]
struct Rule {
    id: Option<EgressRuleId>,
    layer: String,
    agent: Option<String>,
    verdict: EgressVerdict,
    #[serde(rename = "rule")]
    hosts: String,
    note: Option<String>,
}

/// What became of a test.
#[derive(Debug, Deserialize)]
struct Answer {
    verdict: EgressVerdict,
    agent: String,
    host: String,
    port: u16,
    reason: Option<String>,
    layer: String,
    rule: Option<String>,
    rule_id: Option<EgressRuleId>,
    addresses: Vec<Address>,
    detail: String,
    change: String,
}

#[derive(Debug, Deserialize)]
struct Address {
    address: std::net::IpAddr,
    refused: Option<String>,
}

pub(super) async fn egress(context: &Context, command: args::Egress) -> Result<ExitCode, Failure> {
    match command {
        args::Egress::List(list) => self::list(context, list).await,
        args::Egress::Add(add) => self::add(context, add).await,
        args::Egress::Remove(remove) => self::remove(context, remove).await,
        args::Egress::Test(test) => self::test(context, test).await,
    }
}

async fn list(context: &Context, list: EgressList) -> Result<ExitCode, Failure> {
    let page: Value = match Door::open(context) {
        Ok(door) => {
            let query = list.agent.map_or_else(String::new, |a| format!("?agent={}", encoded(&a)));
            door.client.get(&format!("{DOMAINS}{query}")).await.map_err(refused)?
        }
        Err(Closed::NoDaemon(failure)) => {
            let kept = kept(context, list.agent.as_deref()).await?;
            out::note(format_args!("{failure}: this is what the next start will put in force"));
            kept
        }
        Err(Closed::Other(failure)) => return Err(failure),
    };
    if list.output.json {
        out::json(&page);
        return Ok(ExitCode::SUCCESS);
    }
    let page: Page<Rule> = read(page)?;
    let row = |rule: &Rule| {
        [
            rule.id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            rule.verdict.to_string(),
            short(&rule.hosts, 80),
            rule.agent.clone().unwrap_or_else(|| "every agent".to_owned()),
            rule.layer.clone(),
            rule.note.as_deref().map_or_else(|| "-".to_owned(), |note| short(note, NOTE_CHARS)),
        ]
    };
    let rows: Vec<_> = page.items.iter().map(row).collect();
    out::table(["ID", "VERDICT", "RULE", "FOR", "FROM", "NOTE"], &rows);
    if !page.items.iter().any(|rule| rule.verdict == EgressVerdict::Allow) {
        out::line("nothing is allowed: tools have no network (`agent-runtime egress add --help`)");
    }
    Ok(ExitCode::SUCCESS)
}

/// The rules of the configuration and of the store, where no daemon holds them.
async fn kept(context: &Context, agent: Option<&str>) -> Result<Value, Failure> {
    let settings = context.load()?.settings;
    let mut items: Vec<EgressRuleView> =
        settings.agents.iter().flat_map(|a| EgressRuleView::of_policy(&a.name, &a.hosts)).collect();
    if settings.has_store() {
        let store =
            ReadOnlyStore::open(&settings.data_dir, &settings.database).await.map_err(fault)?;
        let rules = store.read().await.map_err(fault)?.egress_rules().all().await.map_err(fault)?;
        items.extend(rules.into_iter().map(EgressRuleView::from));
    }
    let counts = |rule: &EgressRuleView| {
        agent.is_none_or(|wanted| rule.agent.as_ref().is_none_or(|own| own.as_str() == wanted))
    };
    items.retain(counts);
    Ok(json!({ "items": items, "next_cursor": null }))
}

async fn add(context: &Context, add: EgressAdd) -> Result<ExitCode, Failure> {
    let EgressAdd { rule, agent, deny, methods, path, allow_private, opaque, note, output } = add;
    let is_plain = methods.is_empty() && path.is_none() && !allow_private && !opaque;
    let rule = if is_plain {
        json!(rule)
    } else {
        let methods = (!methods.is_empty()).then_some(methods);
        json!({
            "host": rule, "methods": methods, "path": path,
            "allow_private": allow_private, "opaque": opaque,
        })
    };
    let verdict = if deny { EgressVerdict::Deny } else { EgressVerdict::Allow };
    let body = json!({ "rule": rule, "agent": agent, "verdict": verdict, "note": note });
    let door = Door::open(context)?;
    let added: Value = door.client.post(DOMAINS, &body).await.map_err(refused)?;
    if output.json {
        out::json(&added);
        return Ok(ExitCode::SUCCESS);
    }
    say("added", &read(added)?);
    Ok(ExitCode::SUCCESS)
}

async fn remove(context: &Context, remove: EgressRemove) -> Result<ExitCode, Failure> {
    let door = Door::open(context)?;
    let page: Page<Rule> = door.client.get(DOMAINS).await.map_err(refused)?;
    let rule = chosen(page.items, &remove.rule)?;
    let Some(id) = rule.id else {
        return Err(Failure::usage(format!("`{}` stands in the configuration", remove.rule))
            .next("remove it there, then send the daemon SIGHUP"));
    };
    door.client.delete(&format!("{DOMAINS}/{id}")).await.map_err(refused)?;
    if remove.output.json {
        out::json(&json!({ "id": id, "removed": true }));
    } else {
        say("removed", &rule);
    }
    Ok(ExitCode::SUCCESS)
}

/// The one rule that was named, by its id or by its text. A rule of the configuration only where
/// the list has none.
fn chosen(rules: Vec<Rule>, named: &str) -> Result<Rule, Failure> {
    let is_named =
        |rule: &Rule| rule.hosts == named || rule.id.is_some_and(|id| id.to_string() == named);
    let (mut listed, mut configured): (Vec<Rule>, Vec<Rule>) =
        rules.into_iter().filter(is_named).partition(|rule| rule.id.is_some());
    match (listed.len(), listed.pop().or_else(|| configured.pop())) {
        (0 | 1, Some(rule)) => Ok(rule),
        (0 | 1, None) => Err(Failure::fault(format!("there is no rule `{named}`"))
            .next("`agent-runtime egress list` shows them all")),
        (count, _) => Err(Failure::usage(format!("{count} rules are `{named}`"))
            .next("name one by its id; `agent-runtime egress list` shows them")),
    }
}

async fn test(context: &Context, test: EgressTest) -> Result<ExitCode, Failure> {
    let (host, port) =
        split_port(&test.host).map_err(|e| Failure::usage(format!("`{}`: {e}", test.host)))?;
    // The brackets of an IPv6 address only keep its port apart.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let body = json!({
        "host": host, "port": port, "agent": test.agent, "method": test.method, "path": test.path,
    });
    let door = Door::open(context)?;
    let value: Value = door.client.post("/admin/v1/egress/test", &body).await.map_err(refused)?;
    let answer: Answer = read(value.clone())?;
    if test.output.json {
        out::json(&value);
    } else {
        show(&answer, Paint::stdout(context.wants_no_colour()));
    }
    Ok(match answer.verdict {
        EgressVerdict::Allow => ExitCode::SUCCESS,
        EgressVerdict::Deny => ExitCode::from(FAULT),
    })
}

fn show(answer: &Answer, paint: Paint) {
    let verdict = match answer.verdict {
        EgressVerdict::Allow => paint.good("allow"),
        EgressVerdict::Deny => paint.bad("deny"),
    };
    let reason = answer.reason.as_ref().map_or_else(String::new, |r| format!(" ({r})"));
    let Answer { host, port, agent, .. } = answer;
    out::line(format_args!("{verdict}  {} port {port}, agent {agent}{reason}", paint.bold(host)));
    out::line(format_args!("  why      {}", short(&answer.detail, 400)));
    let id = answer.rule_id.map_or_else(String::new, |id| format!(", {id}"));
    let layer = match answer.layer.as_str() {
        "config" => "the configuration",
        "list" => "the list",
        "address" => "the addresses of the host",
        _ => "no rule: what nothing allows is denied",
    };
    let rule =
        answer.rule.as_ref().map_or_else(String::new, |rule| format!(" (rule `{rule}`{id})"));
    out::line(format_args!("  decided  by {layer}{rule}"));
    if !answer.addresses.is_empty() {
        let all: Vec<String> = answer
            .addresses
            .iter()
            .map(|a| match &a.refused {
                Some(why) => format!("{} refused: {why}", a.address),
                None => a.address.to_string(),
            })
            .collect();
        out::line(format_args!("  address  {}", all.join(", ")));
    }
    out::line(format_args!("  change   {}", paint.dim(&answer.change)));
}

fn say(done: &str, rule: &Rule) {
    let whom = rule.agent.as_deref().unwrap_or("every agent");
    let id = rule.id.map_or_else(String::new, |id| format!("{id}  "));
    out::line(format_args!("{done}  {id}{} {} for {whom}", rule.verdict, short(&rule.hosts, 200)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: Option<u8>, text: &str) -> Rule {
        let id =
            id.map(|n| format!("egr_01890a5d-ac96-774b-bcce-b302099a80{n:02}").parse().unwrap());
        let (layer, hosts) = (String::new(), text.to_owned());
        Rule { id, layer, agent: None, verdict: EgressVerdict::Allow, hosts, note: None }
    }

    #[test]
    fn a_rule_is_removed_by_its_id_or_by_its_text_where_that_is_clear() {
        let rules = || {
            vec![
                rule(None, "a.example"),
                rule(Some(1), "a.example"),
                rule(Some(2), "b.example"),
                rule(Some(3), "b.example"),
                rule(None, "c.example"),
            ]
        };
        let id =
            |named: &str| chosen(rules(), named).map(|rule| rule.id).map_err(|e| e.to_string());
        assert_eq!(id("a.example"), Ok(rule(Some(1), "").id));
        let second = rule(Some(2), "").id;
        assert_eq!(id(&second.unwrap().to_string()), Ok(second));
        assert!(id("b.example").unwrap_err().contains("2 rules"));
        assert_eq!(id("c.example"), Ok(None), "it stands in the configuration");
        assert!(id("d.example").unwrap_err().contains("no rule"));
    }
}
