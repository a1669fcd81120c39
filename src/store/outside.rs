//! Checkpoints outside the database: a file that is only appended to, one JSON object a line.

use std::{
    fs,
    io::{self, BufRead, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{
    domain::audit::Checkpoint,
    runtime::{
        durable,
        failpoint::{Point, pass},
    },
};

/// What stands outside.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The checkpoints, in the order in which they were written.
    pub checkpoints: Vec<Checkpoint>,
    /// The first line that is none.
    pub unreadable: Option<String>,
}

/// Reads the file. One that is not there holds nothing.
///
/// # Errors
/// When it cannot be read.
pub fn read(file: &Path) -> io::Result<Found> {
    let opened = match fs::File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        other => other?,
    };
    let mut found = Found::default();
    let mut lines = io::BufReader::new(opened).lines().zip(1_u64..).peekable();
    while let Some((line, number)) = lines.next() {
        let line = line?;
        match serde_json::from_str::<Checkpoint>(&line) {
            Ok(checkpoint) => found.checkpoints.push(checkpoint),
            // A crash may leave half of the last line; it is written again at the next start.
            Err(_) if lines.peek().is_none() => {}
            Err(error) => {
                let what = format!("line {number} of {} is no checkpoint: {error}", file.display());
                found.unreadable.get_or_insert(what);
            }
        }
    }
    Ok(found)
}

/// Appends checkpoints and waits until the disk has them.
///
/// # Errors
/// When it cannot be written; then none of them counts as written.
pub fn append(file: &Path, checkpoints: &[Checkpoint]) -> io::Result<()> {
    pass(Point::CheckpointAppendBefore)?;
    let mut text = String::new();
    for checkpoint in checkpoints {
        text.push_str(&serde_json::to_string(checkpoint).map_err(io::Error::other)?);
        text.push('\n');
    }
    let mut opened =
        fs::OpenOptions::new().read(true).create(true).append(true).mode(0o600).open(file)?;
    let length = whole_lines(&mut opened)?;
    opened.set_len(length)?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()?;
    if length == 0 {
        // It may be new.
        durable::sync_name(file)?;
    }
    Ok(pass(Point::CheckpointAppendAfter)?)
}

/// The length of the file without the half line that a crash may have left at its end.
fn whole_lines(file: &mut fs::File) -> io::Result<u64> {
    const LINE_BYTES_MAX: u64 = 1 << 10;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(LINE_BYTES_MAX);
    file.seek(io::SeekFrom::Start(start))?;
    let mut end = Vec::new();
    file.take(LINE_BYTES_MAX).read_to_end(&mut end)?;
    let half = end.iter().rev().take_while(|b| **b != b'\n').count();
    // A longer one is nothing that we wrote: it stays, and is found.
    let is_ours = half < end.len() || start == 0;
    Ok(if is_ours { length - half as u64 } else { length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn half_a_line_that_a_crash_left_is_taken_away_and_another_is_a_finding() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("checkpoints");
        assert!(read(&file).unwrap().checkpoints.is_empty());
        let checkpoint = |n| Checkpoint {
            n,
            hash: "h".repeat(64),
            at: Timestamp::from_micros(1_000),
            key_id: "k".to_owned(),
            mac: "m".to_owned(),
        };
        append(&file, &[checkpoint(1)]).unwrap();
        let whole = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{whole}{{\"n\":2,\"ha")).unwrap();
        let found = read(&file).unwrap();
        assert_eq!((found.checkpoints.len(), found.unreadable), (1, None));
        append(&file, &[checkpoint(2), checkpoint(3)]).unwrap();
        let found = read(&file).unwrap();
        assert_eq!(found.checkpoints.iter().map(|c| c.n).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(found.unreadable, None);
        fs::write(&file, format!("{whole}nonsense\n{whole}")).unwrap();
        assert!(read(&file).unwrap().unreadable.unwrap().contains("line 2"));
    }
}
