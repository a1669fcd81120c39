//! The entries of `fuzz/`, for it and for the tests that replay its corpus. Not part of any build
//! that is shipped.

pub use crate::{
    auth::policy::fuzzing::policy,
    domain::host::fuzzing::host,
    egress::fuzzing::{client_hello, dns, http_head},
    sandbox::fuzzing::{plan, zygote_protocol},
};

/// A fuzz entry by the name of its target.
type Entry = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Entry] = &[
    ("client_hello", client_hello),
    ("dns", dns),
    ("host", host),
    ("http_head", http_head),
    ("plan", plan),
    ("policy", policy),
    ("zygote_protocol", zygote_protocol),
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use proptest::prelude::*;

    use super::TARGETS;

    /// A target and its inputs.
    type Kept = (&'static str, fn(&[u8]), Vec<Vec<u8>>);

    fn corpus() -> Vec<Kept> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let inputs = |name: &str| {
            let files = fs::read_dir(root.join(name)).unwrap();
            files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect::<Vec<_>>()
        };
        let found = fs::read_dir(&root).unwrap();
        let found: BTreeSet<_> =
            found.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        let known: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(found, known, "a corpus without a target, or a target without a corpus");
        TARGETS.iter().map(|(name, entry)| (*name, *entry, inputs(name))).collect()
    }

    #[test]
    fn the_fuzzer_builds_with_the_same_outside_crates() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let ours = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let theirs = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        let (_, rest) = theirs.split_once("[dependencies]\n").unwrap();
        let (list, _) = rest.split_once("\n[").unwrap();
        let is_own = |line: &&str| !line.is_empty() && !line.starts_with("libfuzzer-sys");
        let lines: Vec<_> = list.lines().filter(is_own).collect();
        assert!(lines.len() > 10, "only {} found", lines.len());
        for line in lines {
            assert!(ours.lines().any(|own| own == line), "fuzz/Cargo.toml: {line}");
        }
    }

    #[test]
    fn the_laws_hold_for_every_kept_input() {
        for (name, entry, inputs) in corpus() {
            assert!(inputs.len() >= 3, "{name} has too few inputs");
            for input in &inputs {
                entry(input);
            }
        }
    }

    #[test]
    fn the_laws_hold_for_kept_inputs_that_were_damaged() {
        let corpus = corpus();
        let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
        let cut = prop::option::of(any::<prop::sample::Index>());
        let which = any::<prop::sample::Index>();
        proptest!(ProptestConfig::with_cases(300), |(which in which, damage in damage, cut in cut)| {
            for (_, entry, inputs) in &corpus {
                let mut input = which.get(inputs).clone();
                for (at, byte) in &damage {
                    if !input.is_empty() {
                        let at = at.index(input.len());
                        input[at] = *byte;
                    }
                }
                if let Some(cut) = cut {
                    input.truncate(cut.index(input.len() + 1));
                }
                entry(&input);
            }
        });
    }
}
