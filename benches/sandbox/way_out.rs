//! curl through the sandbox's doors beside curl without a sandbox: latency of one small request,
//! and the rate of a large download.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    process::Command,
    sync::Arc,
    time::Duration,
};

use agent_runtime::{
    domain::{
        AgentName, CommandRule, EgressLimits, Grant, HostName, HostPolicy, HostRule, IdSource,
        SystemClock, ToolCallId,
    },
    egress::{Doors, Egress, Options},
};
use anyhow::{Context as _, ensure};

use crate::{
    Plan,
    lab::{Lab, run},
    report::{Met, Report, Times, millis},
};

/// Bytes of the large download.
const LARGE: usize = 256 << 20;
/// What curl prints: seconds until the first byte, and bytes per second.
const FORMAT: &str = "%{time_starttransfer} %{speed_download}\\n";

pub(crate) async fn measure(report: &mut Report, lab: &Lab, plan: Plan) -> anyhow::Result<()> {
    let server = serve()?;
    let host = HostName::parse("download.test")?;
    let rule = HostRule { allow_private: true, ..HostRule::parse("download.test:80")? };
    let policy = Arc::new(HostPolicy { allow: vec![rule], deny: Vec::new() });
    let grant = Arc::new(Grant {
        hosts: Arc::clone(&policy),
        ..Grant::new(lab.workspace.clone(), CommandRule::Any)
    });
    let options =
        Options { connect_to: BTreeMap::from([((host, 80), server)]), ..Options::default() };
    let egress = Egress::new(options, &lab.tasks)?;
    let agent: AgentName = "bench".parse()?;
    egress.set_policy(&agent, Arc::clone(&policy));
    let limits = EgressLimits {
        connections: u64::MAX,
        requests: u64::MAX,
        bytes_down: u64::MAX,
        ..EgressLimits::default()
    };
    let channel = egress.open(agent, "bench".to_owned(), limits);
    let mut session = lab.open(&grant).await?;
    let doors = session.take_listeners().context("a session with hosts has doors")?;
    let _serving = channel.listen(Doors {
        proxy: doors.proxy,
        http: doors.http,
        https: doors.https,
        dns: doors.dns,
    })?;
    let ids = IdSource::new(Arc::new(SystemClock), |bytes| bytes.fill(7));
    channel.begin(ToolCallId::new(&ids), policy);
    let direct = |path: &str| -> anyhow::Result<(f64, f64)> {
        let url = format!("http://{server}{path}");
        let arguments = ["-sS", "-o", "/dev/null", "-w", FORMAT, &url];
        let output = Command::new("curl").args(arguments).output()?;
        ensure!(output.status.success(), "curl failed: {output:?}");
        parse(&String::from_utf8_lossy(&output.stdout))
    };
    let (mut bare, mut through) = (Vec::new(), Vec::new());
    for _ in 0..plan.pick(150, 40) {
        bare.push(Duration::from_secs_f64(direct("/small")?.0));
        let url = "http://download.test/small";
        let told =
            run(&session, &grant, &["curl", "-sS", "-o", "/dev/null", "-w", FORMAT, url]).await?;
        through.push(Duration::from_secs_f64(parse(&told)?.0));
    }
    let (bare, through) = (Times::new(bare), Times::new(through));
    report.row(
        "a small request by the proxy",
        format!(
            "{}; adds {} at p50",
            through.show(),
            millis(through.p50().saturating_sub(bare.p50()))
        ),
        format!("direct {}", bare.show()),
        "",
        Met::NotAsked,
    );
    let (mut bare, mut through) = (0.0_f64, 0.0_f64);
    for _ in 0..plan.pick(3, 1) {
        bare = bare.max(direct("/large")?.1);
        let url = "http://download.test/large";
        let told =
            run(&session, &grant, &["curl", "-sS", "-o", "/dev/null", "-w", FORMAT, url]).await?;
        through = through.max(parse(&told)?.1);
    }
    report.row(
        "a download of 256 MiB by the proxy",
        format!("{:.0} MB/s ({:.2}× direct)", through / 1e6, through / bare),
        format!("direct {:.0} MB/s", bare / 1e6),
        "",
        Met::NotAsked,
    );
    channel.close();
    Ok(())
}

fn parse(told: &str) -> anyhow::Result<(f64, f64)> {
    let mut numbers = told.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().context("curl said nothing")?.context("not a number");
    Ok((next()?, next()?))
}

/// A server that answers every request with one byte, or with a large body.
fn serve() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut head = [0_u8; 2048];
                let count = stream.read(&mut head)?;
                let is_large = head.get(..count).is_some_and(|h| h.starts_with(b"GET /large"));
                let length = if is_large { LARGE } else { 1 };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(answer.as_bytes())?;
                let piece = vec![b'x'; length.min(1 << 20)];
                for _ in 0..length.div_ceil(1 << 20) {
                    stream.write_all(&piece)?;
                }
                Ok(())
            });
        }
    });
    Ok(address)
}
