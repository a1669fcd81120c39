//! Collects rows and prints them as one Markdown table.

use std::time::Duration;

/// Whether a target was met; judged only where RUNS.md names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Yes,
    No,
    NotAsked,
}

impl Met {
    pub(crate) const fn of(is_met: bool) -> Self {
        if is_met { Self::Yes } else { Self::No }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "NO",
            Self::NotAsked => "",
        }
    }
}

struct Row {
    quantity: String,
    measured: String,
    floor: String,
    target: &'static str,
    met: Met,
}

/// The table.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a row, and shows it at once: a long run should say how far it is.
    pub(crate) fn row(
        &mut self,
        quantity: impl Into<String>,
        measured: impl Into<String>,
        floor: impl Into<String>,
        target: &'static str,
        met: Met,
    ) {
        let row = Row {
            quantity: quantity.into(),
            measured: measured.into(),
            floor: floor.into(),
            target,
            met,
        };
        eprintln!("  {}: {}", row.quantity, row.measured);
        self.rows.push(row);
    }

    pub(crate) fn print(&self) {
        println!("| quantity | measured | floor in the same run | target | met |");
        println!("|---|---|---|---|---|");
        for row in &self.rows {
            let Row { quantity, measured, floor, target, met } = row;
            println!("| {quantity} | {measured} | {floor} | {target} | {} |", met.word());
        }
    }
}

/// Times, sorted once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    pub(crate) const fn count(&self) -> usize {
        self.0.len()
    }

    /// The value below which so many percent of the times lie.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * percent / 100).copied().unwrap_or_default()
    }

    pub(crate) fn p50(&self) -> Duration {
        self.percentile(50)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.percentile(99)
    }

    pub(crate) fn show(&self) -> String {
        format!("p50 {}, p99 {}", millis(self.p50()), millis(self.p99()))
    }
}

/// Milliseconds with as many digits as mean something.
pub(crate) fn millis(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

/// Megabytes (10^6 bytes).
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// How many per second.
pub(crate) fn rate(count: usize, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64().max(1e-9)
}
