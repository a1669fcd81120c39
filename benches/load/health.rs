//! The cheapest request of the daemon next to a bare axum server.

use std::{net::SocketAddr, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use crate::{
    Plan,
    client::Client,
    daemon::{Daemon, TOKEN},
    fake::Fake,
    report::{Met, Report, rate},
};

const CLIENTS: usize = 16;

/// Serves `{"status":"ok"}` with axum and nothing else, on a runtime like the daemon's.
fn bare() -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    std::thread::Builder::new().name("bare-axum".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async move {
            let ok = || async { axum::Json(serde_json::json!({ "status": "ok" })) };
            let app = axum::Router::new().route("/healthz", axum::routing::get(ok));
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream.set_nodelay(true));
                let service = hyper_util::service::TowerToHyperService::new(app.clone());
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
                );
            }
        });
    })?;
    Ok(addr)
}

async fn drive(addr: SocketAddr, span: Duration) -> anyhow::Result<f64> {
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        clients.push(Client::connect(addr, TOKEN).await?);
    }
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let mut count = 0_usize;
            while began.elapsed() < span {
                count += usize::from(client.get("/healthz").await?.status == 200);
            }
            anyhow::Ok(count)
        });
    }
    let mut total = 0;
    while let Some(count) = tasks.join_next().await {
        total += count??;
    }
    Ok(rate(total, began.elapsed()))
}

pub(crate) async fn measure(report: &mut Report, fake: &Fake, plan: Plan) -> anyhow::Result<()> {
    let daemon = Daemon::start(fake).await?;
    let addr = bare()?;
    let span = plan.pick(Duration::from_millis(700), Duration::from_millis(300));
    let (mut ours, mut floor) = (0.0, 0.0);
    let rounds = 3;
    for _ in 0..rounds {
        ours += drive(daemon.addr(), span).await?;
        floor += drive(addr, span).await?;
    }
    let ratio = ours / floor;
    let rounds = f64::from(rounds);
    report.row(
        format!("`/healthz`, {CLIENTS} clients"),
        format!("{:.0} requests/s ({ratio:.2}×)", ours / rounds),
        format!("bare axum {:.0} requests/s", floor / rounds),
        "≥ 0.5×",
        Met::of(ratio >= 0.5),
    );
    Ok(())
}
