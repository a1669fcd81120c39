//! Backups as they are recorded and shown.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{ids::BackupId, time::Timestamp};

/// How far a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    /// It is being made.
    Running,
    /// Its file is whole.
    Done,
    /// There is no file.
    Failed,
    /// Its file was removed: newer ones are kept.
    Pruned,
}

impl BackupState {
    const ALL: [Self; 4] = [Self::Running, Self::Done, Self::Failed, Self::Pruned];

    /// The name in the store and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Pruned => "pruned",
        }
    }
}

impl fmt::Display for BackupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BackupState {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or("running, done, failed or pruned")
    }
}

/// A backup that a daemon made or tried to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// Its id.
    pub id: BackupId,
    /// How far it is.
    pub state: BackupState,
    /// The moment of the schedule that it is for; none when somebody asked for it.
    pub due: Option<Timestamp>,
    /// Who asked for it.
    pub asked_by: String,
    /// Name of its file in the directory for backups.
    pub file: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What is being done, for people.
    pub step: String,
    /// Rows of the database so far.
    pub rows: u64,
    /// Files beside the database so far.
    pub files: u64,
    /// Bytes of the file when it is whole; before, bytes that were read for it.
    pub bytes: u64,
    /// SHA-256 of the file, as hex, once it is whole.
    pub sha256: Option<String>,
    /// Why it failed, or what failed after it was made.
    pub error: Option<String>,
}

/// A time of day (UTC) at which something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DailyTime {
    minute: u16,
}

const MINUTE_MICROS: i64 = 60 * 1_000_000;
const DAY_MICROS: i64 = 24 * 60 * MINUTE_MICROS;

impl DailyTime {
    /// The last moment of it that is not after `now`.
    pub const fn last(self, now: Timestamp) -> Timestamp {
        let of_day = self.minute as i64 * MINUTE_MICROS;
        let now = now.as_micros();
        let today = now.div_euclid(DAY_MICROS) * DAY_MICROS + of_day;
        Timestamp::from_micros(if today > now { today - DAY_MICROS } else { today })
    }
}

impl fmt::Display for DailyTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.minute / 60, self.minute % 60)
    }
}

impl FromStr for DailyTime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let wanted = "a time of day in UTC such as 03:30";
        let (hour, minute) = text.split_once(':').ok_or(wanted)?;
        let number = |part: &str, max: u16| {
            let is_two_digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            part.parse::<u16>().ok().filter(|n| is_two_digits && *n < max)
        };
        let hour = number(hour, 24).ok_or(wanted)?;
        Ok(Self { minute: hour * 60 + number(minute, 60).ok_or(wanted)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_two_numbers_and_comes_once_a_day() {
        for wrong in ["", "3:30", "03:60", "24:00", "03-30", "+3:30", "03:30:00", "aa:bb"] {
            assert!(wrong.parse::<DailyTime>().is_err(), "{wrong}");
        }
        let time: DailyTime = "03:30".parse().unwrap();
        assert_eq!(time.to_string(), "03:30");
        let at = |hours: i64, minutes: i64| {
            Timestamp::from_micros(20_000 * DAY_MICROS + (hours * 60 + minutes) * MINUTE_MICROS)
        };
        assert_eq!(time.last(at(3, 30)), at(3, 30));
        assert_eq!(time.last(at(3, 29)), at(3 - 24, 30));
        assert_eq!(time.last(at(23, 59)), at(3, 30));
    }

    #[test]
    fn every_state_has_one_name() {
        for state in BackupState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("gone".parse::<BackupState>().is_err());
    }
}
