//! Lines of the log that are old.

use super::{Inner, retention::RetentionReport};
use crate::{
    domain::{Retention, RetentionClass, Timestamp},
    runtime::{LineFate, Tasks},
};

impl Inner {
    pub(super) async fn clean_log(
        &self,
        days: Retention,
        now: Timestamp,
        report: &mut RetentionReport,
    ) {
        let Some(log) = self.keeper.options.log.clone().filter(|_| !report.dry_run) else {
            return;
        };
        let mut age = LineAge { days, now, is_dropped: false };
        let done = Tasks::spawn_blocking(move || log.rewrite(|line| age.fate(line))).await;
        match done.map_err(|e| e.to_string()).and_then(|done| done.map_err(|e| e.to_string())) {
            Ok(done) => report.add("log lines", done.dropped),
            Err(error) => report.problems.push(format!("the log file: {error}")),
        }
    }
}

/// How old lines of the log are. A line without a time belongs to the one before.
struct LineAge {
    days: Retention,
    now: Timestamp,
    is_dropped: bool,
}

impl LineAge {
    fn fate(&mut self, line: &str) -> LineFate {
        if let Some((at, class)) = line_class(line) {
            self.is_dropped =
                self.days.old_before(class, self.now).is_some_and(|before| at < before);
        }
        if self.is_dropped { LineFate::Drop } else { LineFate::Keep }
    }
}

/// When a line was written, and how long it is kept: what went wrong longest, then who came in.
fn line_class(line: &str) -> Option<(Timestamp, RetentionClass)> {
    let (at, level, target) = if line.starts_with('{') {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| line.get(name).and_then(|v| v.as_str()).map(str::to_owned);
        (text("timestamp")?, text("level")?, text("target").unwrap_or_default())
    } else {
        let mut words = line.split_whitespace();
        let (at, level) = (words.next()?.to_owned(), words.next()?.to_owned());
        (at, level, words.next().unwrap_or_default().trim_end_matches(':').to_owned())
    };
    let is_access = ["agent_runtime::auth", "agent_runtime::http"];
    let class = match level.as_str() {
        "ERROR" => RetentionClass::Error,
        _ if is_access.iter().any(|module| target.starts_with(module)) => RetentionClass::Access,
        _ => RetentionClass::App,
    };
    Some((at.parse().ok()?, class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_by_their_age_and_by_what_they_say() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let mut age = LineAge { days: Retention::default(), now, is_dropped: false };
        let mut fate = |line: &str| age.fate(line) == LineFate::Keep;
        let json = |at: &str, level: &str, target: &str| {
            format!(r#"{{"timestamp":"{at}","level":"{level}","target":"{target}"}}"#)
        };
        assert!(!fate(&json("2026-04-01T00:00:00.123456Z", "INFO", "agent_runtime::store")));
        assert!(!fate("  a second line of it"));
        assert!(fate(&json("2026-04-01T00:00:00.1Z", "ERROR", "agent_runtime::store")));
        assert!(fate(&json("2026-04-01T00:00:00.1Z", "INFO", "agent_runtime::auth::authn")));
        assert!(!fate(&json("2026-02-01T00:00:00.1Z", "INFO", "agent_runtime::auth::authn")));
        assert!(!fate(&json("2025-02-01T00:00:00.1Z", "ERROR", "agent_runtime::store")));
        assert!(fate("2026-05-31T00:00:00.000000Z  INFO agent_runtime::app: started"));
        assert!(fate("  a second line of it"));
        assert!(!fate("2026-01-31T00:00:00.000000Z  WARN agent_runtime::app: started"));
    }
}
