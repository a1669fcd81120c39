//! `approval …`: see and answer what agents ask permission for.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{
    Context, Failure, args, connect,
    out::{self, short},
    render::approval_lines,
    runs::encoded,
};
use crate::{app::client::Page, domain::Approval};

pub(super) async fn approval(
    context: &Context,
    command: args::Approval,
) -> Result<ExitCode, Failure> {
    match command {
        args::Approval::List(list) => self::list(context, list).await,
        args::Approval::Show(one) => {
            let client = connect::client(context, &one.client.connect)?;
            show(&client.approval(one.id).await?, one.client.output.json)
        }
        args::Approval::Approve(decide) => self::decide(context, decide, "approve").await,
        args::Approval::Deny(decide) => self::decide(context, decide, "deny").await,
    }
}

async fn list(context: &Context, list: args::ApprovalList) -> Result<ExitCode, Failure> {
    let filter = if list.state == "all" {
        String::new()
    } else {
        format!("state={}&", encoded(&list.state))
    };
    let path = format!("/api/v1/approvals?{filter}limit=200");
    let client = connect::client(context, &list.client.connect)?;
    if list.client.output.json {
        out::json(&client.get(&path).await?);
        return Ok(ExitCode::SUCCESS);
    }
    let page: Page<Approval> = client.get(&path).await?;
    let row = |a: &Approval| {
        [
            a.id.to_string(),
            a.state.as_str().to_owned(),
            a.risk.to_string(),
            a.required_role.to_string(),
            a.expires_at.to_string(),
            short(&format!("{} {}", a.tool, a.args), 60),
        ]
    };
    let rows: Vec<_> = page.items.iter().map(row).collect();
    out::table(["APPROVAL", "STATE", "RISK", "DECIDES", "EXPIRES", "CALL"], &rows);
    Ok(ExitCode::SUCCESS)
}

async fn decide(
    context: &Context,
    decide: args::Decide,
    decision: &str,
) -> Result<ExitCode, Failure> {
    let mut body = json!({ "decision": decision, "scope": decide.scope.as_str() });
    if let Some(body) = body.as_object_mut() {
        body.extend(decide.reason.map(|r| ("reason".to_owned(), json!(r))));
        body.extend(decide.outcome.map(|o| ("outcome".to_owned(), json!(o.as_str()))));
    }
    let client = connect::client(context, &decide.client.connect)?;
    let approval = client.decide(decide.id, &body).await?;
    if decide.client.output.json {
        return show(&approval, true);
    }
    out::line(format_args!("{} {}", approval.id, approval.state.as_str()));
    Ok(ExitCode::SUCCESS)
}

fn show(approval: &Approval, is_json: bool) -> Result<ExitCode, Failure> {
    if is_json {
        let value: Value =
            serde_json::to_value(approval).map_err(|e| Failure::fault(e.to_string()))?;
        out::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    approval_lines(approval).iter().for_each(out::line);
    out::line(format_args!("    in {}", short(&approval.cwd, 200)));
    out::line(format_args!("    {}; expires {}", approval.state.as_str(), approval.expires_at));
    for record in &approval.decisions {
        let reason =
            record.reason.as_deref().map_or_else(String::new, |r| format!(": {}", short(r, 200)));
        out::line(format_args!(
            "    {:?} by {} at {}{reason}",
            record.decision, record.principal, record.at
        ));
    }
    Ok(ExitCode::SUCCESS)
}
