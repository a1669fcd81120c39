//! What was seen outside of the daemon: by the clients, the tools and the fake provider.
//!
//! A witness log is a file of JSON lines that only the test writes (the fake provider writes a file
//! of its own, tools append plain ids of calls in their workspace). Lines of clients have `kind`:
//!
//! ```text
//! {"kind":"created","key":"k1","run":"run_…"}             201/202 for a create with this key
//! {"kind":"decided","approval":"apr_…","decision":"approve"}
//! {"kind":"cancelled","run":"run_…"}
//! {"kind":"steered","run":"run_…","steer":"…"}
//! {"kind":"saw","client":"c1","run":"run_…","seq":3,"type":"tool.started"}
//! {"kind":"limit","scope":"org","subject":"","nanos":null,"tokens":1000}
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    sync::Mutex,
};

use serde_json::{Value, json};

/// Everything that witnesses say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness {
    /// Idempotency key and run of each create that was acknowledged.
    pub(crate) created: Vec<(String, String)>,
    /// Approval and decision of each answer that was acknowledged.
    pub(crate) decided: Vec<(String, String)>,
    /// Runs whose cancel was acknowledged.
    pub(crate) cancelled: Vec<String>,
    /// Run and id of each steer that was acknowledged.
    pub(crate) steered: Vec<(String, String)>,
    /// What streaming clients were sent, in order, by client and run.
    pub(crate) seen: BTreeMap<(String, String), Vec<Seen>>,
    /// Limits of the configuration: scope, subject, nano-dollars, tokens.
    pub(crate) limits: Vec<(String, String, Option<i64>, Option<u64>)>,
    /// Ids of calls in the order in which tools really ran them; `overlap <id>` where one began
    /// while another execution of its run was not over.
    pub(crate) executed: Vec<String>,
    /// Ids of calls whose results the provider was shown.
    pub(crate) shown: Vec<String>,
    /// Values that nothing may hold.
    pub(crate) secrets: Vec<String>,
    /// Texts outside the store that may not hold them either, with a name: logs, files.
    pub(crate) texts: Vec<(String, String)>,
}

/// A durable event as a client was sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) seq: u64,
    pub(crate) kind: String,
}

impl Witness {
    /// Adds what a log of clients or of the fake provider says. A missing file says nothing; half a
    /// line at the end is that of a writer that was stopped.
    pub(crate) fn add_log(&mut self, file: &Path) {
        let text = fs::read_to_string(file).unwrap_or_default();
        for line in text.lines() {
            if let Ok(line) = serde_json::from_str::<Value>(line) {
                self.add_line(&line);
            }
        }
    }

    /// Adds the ids that tools have appended to a file.
    pub(crate) fn add_executions(&mut self, file: &Path) {
        let text = fs::read_to_string(file).unwrap_or_default();
        self.executed.extend(text.lines().map(str::to_owned));
    }

    /// Adds one line.
    pub(crate) fn add_line(&mut self, line: &Value) {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        match line["kind"].as_str() {
            Some("created") => self.created.push((text("key"), text("run"))),
            Some("decided") => self.decided.push((text("approval"), text("decision"))),
            Some("cancelled") => self.cancelled.push(text("run")),
            Some("steered") => self.steered.push((text("run"), text("steer"))),
            Some("saw") => {
                let seq = line["seq"].as_u64().unwrap_or_default();
                let seen = Seen { seq, kind: text("type") };
                self.seen.entry((text("client"), text("run"))).or_default().push(seen);
            }
            Some("limit") => {
                let (nanos, tokens) = (line["nanos"].as_i64(), line["tokens"].as_u64());
                self.limits.push((text("scope"), text("subject"), nanos, tokens));
            }
            Some(other) => panic!("a witness of an unknown kind: {other}"),
            // A line of the fake provider.
            None => {
                let results = line["results"].as_array().cloned().unwrap_or_default();
                let ids = results.iter().filter_map(|r| r["id"].as_str().map(str::to_owned));
                self.shown.extend(ids);
            }
        }
    }
}

/// Writes a log of what clients were promised and sent. Each line is written at once, before the
/// client goes on.
pub(crate) struct Recorder(Mutex<File>);

impl Recorder {
    /// Appends to this file.
    pub(crate) fn new(file: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(file);
        Self(Mutex::new(file.expect("the witness log opens")))
    }

    fn write(&self, line: &Value) {
        let line = format!("{line}\n");
        self.0.lock().expect("the log").write_all(line.as_bytes()).expect("a line is written");
    }

    pub(crate) fn created(&self, key: &str, run: &str) {
        self.write(&json!({"kind": "created", "key": key, "run": run}));
    }

    pub(crate) fn decided(&self, approval: &str, decision: &str) {
        self.write(&json!({"kind": "decided", "approval": approval, "decision": decision}));
    }

    pub(crate) fn cancelled(&self, run: &str) {
        self.write(&json!({"kind": "cancelled", "run": run}));
    }

    pub(crate) fn steered(&self, run: &str, steer: &str) {
        self.write(&json!({"kind": "steered", "run": run, "steer": steer}));
    }

    pub(crate) fn saw(&self, client: &str, run: &str, seq: u64, kind: &str) {
        let line = json!({"kind": "saw", "client": client, "run": run, "seq": seq, "type": kind});
        self.write(&line);
    }
}
