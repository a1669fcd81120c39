//! What the documents say about tests is true: every test that they name exists.
#![cfg(test)]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn files(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
}

/// Words that look like the name of a test: sentences in snake case.
fn test_names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .filter(|word| word.matches('_').count() >= 4 && !word.starts_with('_'))
        // Metrics have names of that form too.
        .filter(|word| !word.starts_with("agent_runtime_"))
}

#[test]
fn every_test_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut sources, mut documents) = (Vec::new(), vec![root.join("README.md")]);
    files(&root.join("tests"), "rs", &mut sources);
    files(&root.join("src"), "rs", &mut sources);
    files(&root.join("docs"), "md", &mut documents);
    let code: String = sources.iter().map(|p| fs::read_to_string(p).expect("a source")).collect();
    let mut checked = 0;
    for document in documents {
        let text = fs::read_to_string(&document).expect("a document");
        for name in test_names(&text) {
            let is_there = code.contains(&format!("fn {name}("));
            assert!(is_there, "{} names {name}, which is no test", document.display());
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} names were found: the check looks at nothing");
}

#[test]
fn every_kind_of_audit_row_is_written_by_somebody_and_explained() {
    use agent_runtime::domain::audit::AuditKind;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    files(&root.join("src"), "rs", &mut sources);
    let is_program = |path: &&PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        !name.ends_with("tests.rs") && !path.ends_with("domain/audit.rs")
    };
    // What stands behind the tests of a file is none of the program.
    let program = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a source");
        text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
    };
    let code: String = sources.iter().filter(is_program).map(program).collect();
    let document = fs::read_to_string(root.join("docs/AUDIT.md")).expect("a document");
    for kind in AuditKind::ALL {
        let variant = format!("{kind:?}");
        let is_word = |end: &str| !end.starts_with(|c: char| c.is_ascii_alphanumeric());
        let named = format!("AuditKind::{variant}");
        let is_written = code
            .match_indices(&named)
            .any(|(at, _)| code.get(at + named.len()..).is_some_and(is_word));
        assert!(is_written, "nobody writes {variant}");
        assert!(document.contains(&format!("`{}`", kind.as_str())), "{variant} is not explained");
    }
}
