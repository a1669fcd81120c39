use super::*;
use crate::{
    auth::keys::{Keys, Purpose},
    domain::{EventId, IdSource, ManualClock, Secret, audit::AuditRow},
    store::audit::hash,
};

fn key(text: &str) -> Key {
    Keys::new(&Secret::new(text.repeat(32))).unwrap().key(Purpose::Checkpoint)
}

fn rows(count: u64) -> Vec<AuditRow> {
    let ids = IdSource::new(std::sync::Arc::new(ManualClock::at_secs(1)), |b| b.fill(1));
    let mut out: Vec<AuditRow> = Vec::new();
    for n in 1..=count {
        let mut row = AuditRow {
            n,
            id: EventId::new(&ids),
            at: Timestamp::from_micros(i64::try_from(n).unwrap() * 1_000_000),
            kind: "daemon".to_owned(),
            actor: "system".to_owned(),
            surface: "system".to_owned(),
            run_id: None,
            request_id: None,
            data: serde_json::json!({ "n": n }),
            prev_hash: out.last().map_or_else(|| "0".repeat(64), |row| row.hash.clone()),
            hash: String::new(),
        };
        row.hash = hash(&row);
        out.push(row);
    }
    out
}

fn checkpoints(rows: &[AuditRow], key: &Key, at: &[usize]) -> Vec<Checkpoint> {
    at.iter()
        .map(|i| sign(key, Seal::Checkpoint, rows[*i].n, &rows[*i].hash, rows[*i].at))
        .collect()
}

fn check(
    rows: &[AuditRow],
    stored: &[Checkpoint],
    outside: &[Checkpoint],
    key: Option<&Key>,
) -> Report {
    let keys = key.map(std::slice::from_ref);
    let mut check = TrailCheck::new(keys);
    check.expect(stored.to_vec(), outside.to_vec());
    for row in rows {
        check.row(row);
    }
    check.finish()
}

#[test]
fn a_whole_trail_passes_with_and_without_the_key() {
    let (rows, key) = (rows(20), key("a"));
    let signed = checkpoints(&rows, &key, &[9, 19]);
    let report = check(&rows, &signed, &signed, Some(&key));
    assert!(report.ok, "{report:?}");
    assert_eq!(
        (report.rows, report.checkpoints, report.signed, report.unsigned_rows),
        (20, 2, Some(2), 0)
    );
    let report = check(&rows, &signed, &[], None);
    assert_eq!((report.ok, report.signed), (true, None));
}

#[test]
fn a_tail_that_was_cut_off_shows_by_the_checkpoints_outside() {
    let (rows, key) = (rows(20), key("a"));
    let outside = checkpoints(&rows, &key, &[9, 19]);
    let report = check(&rows[..15], &outside[..1], &outside, Some(&key));
    assert!(!report.ok && report.problems.iter().any(|p| p.contains("cut off")), "{report:?}");
    // Nothing shows inside the database alone: this is why they stand outside too.
    assert!(check(&rows[..15], &outside[..1], &[], Some(&key)).ok);
}

#[test]
fn a_trail_that_was_replaced_as_a_whole_shows_by_its_signatures() {
    let (mut rows, key, theirs) = (rows(20), key("a"), key("b"));
    let outside = checkpoints(&rows, &key, &[9, 19]);
    let mut prev = "0".repeat(64);
    for row in &mut rows {
        row.actor = "nobody".to_owned();
        row.prev_hash.clone_from(&prev);
        row.hash = hash(row);
        prev.clone_from(&row.hash);
    }
    let mut forged = checkpoints(&rows, &theirs, &[9, 19]);
    let other = check(&rows, &forged, &[], Some(&key));
    assert!(!other.ok && other.problems[0].contains("not here"), "{other:?}");
    for checkpoint in &mut forged {
        checkpoint.key_id = key.id();
    }
    let report = check(&rows, &forged, &[], Some(&key));
    assert!(!report.ok && report.problems[0].contains("forged"), "{report:?}");
    let report = check(&rows, &forged, &outside, None);
    assert!(!report.ok && report.problems[0].contains("replaced"), "{report:?}");
    // Without any checkpoint what is old must be signed.
    let mut old = rows.clone();
    old.truncate(1);
    assert!(check(&old, &[], &[], Some(&key)).ok);
    let long = super::tests::rows(400);
    let report = check(&long, &[], &[], Some(&key));
    assert!(!report.ok && report.problems[0].contains("not signed"), "{report:?}");
}

#[test]
fn a_signature_for_one_place_does_not_hold_in_another() {
    let (rows, key) = (rows(3), key("a"));
    let signed = sign(&key, Seal::Checkpoint, 3, &rows[2].hash, rows[2].at);
    let keys = std::slice::from_ref(&key);
    assert_eq!(signature(keys, Seal::Checkpoint, &signed), Signature::Good);
    assert_eq!(signature(keys, Seal::ExportEnd, &signed), Signature::Forged);
    let mut other = signed.clone();
    other.at = other.at.plus(std::time::Duration::from_millis(1));
    assert_eq!(signature(keys, Seal::Checkpoint, &other), Signature::Forged);
    other = Checkpoint { n: 2, ..signed };
    assert_eq!(signature(keys, Seal::Checkpoint, &other), Signature::Forged);
}

#[test]
fn a_key_that_was_replaced_signs_nothing_new() {
    let (rows, old, new) = (rows(20), key("a"), key("b"));
    let keys = [new.clone(), old.clone()];
    let check = |stored: &[Checkpoint]| {
        let mut check = TrailCheck::new(Some(&keys));
        check.expect(stored.to_vec(), stored.to_vec());
        for row in &rows {
            check.row(row);
        }
        check.finish()
    };
    let of = |old_at: &[usize], new_at: &[usize]| {
        [checkpoints(&rows, &old, old_at), checkpoints(&rows, &new, new_at)].concat()
    };
    let turned = check(&of(&[4, 9], &[14, 19]));
    assert!(turned.ok, "{turned:?}");
    // Who has the old key writes the whole trail anew, or its end.
    let replaced = check(&of(&[4, 9, 14, 19], &[]));
    assert!(replaced.problems.iter().any(|p| p.contains("key in force")), "{replaced:?}");
    let continued = check(&of(&[4, 19], &[9]));
    assert!(continued.problems.iter().any(|p| p.contains("old key")), "{continued:?}");
}
