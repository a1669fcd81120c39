//! A policy as a large team may write it, and one that defeats the index.

use std::fmt::Write as _;

/// Agents that the rules are about; the measured one is among them.
const AGENTS: usize = 20;

/// 1,000 rules of every kind: half for everybody, half for one of twenty agents.
pub(crate) fn usual(count: usize) -> String {
    let mut text = "version = 1\n".to_owned();
    for n in 0..count {
        let agent = match n / 10 % 2 {
            0 => String::new(),
            _ => format!("agents = [\"agent-{}\"]\n", n / 20 % AGENTS),
        };
        let matchers = match n % 10 {
            0 | 1 => format!("effect = \"deny\"\ncommand = [[\"tool-{n}\", [\"a\", \"b\"]]]"),
            2 => format!("effect = \"allow\"\ncommand = [[\"tool-{n}\", \"run\"]]"),
            3 => format!("effect = \"deny\"\npaths = [\"dir-{n}/**\", \"/srv/tree-{n}\"]"),
            4 => format!("effect = \"ask\"\npaths = [\"src/part-{n}/*.key\"]\naccess = \"write\""),
            5 => format!("effect = \"deny\"\nhosts = [\"host-{n}.example\"]"),
            6 => format!("effect = \"ask\"\nhosts = [\"*.zone-{n}.example\"]"),
            7 => format!(
                "effect = \"allow\"\nhosts = [{{ host = \"api-{n}.example\", methods = [\"POST\"] }}]"
            ),
            8 => format!("effect = \"deny\"\ncommand = [[\"git\", \"verb-{n}\"]]"),
            _ => "effect = \"ask\"\ntools = [\"shell\"]\nroles = [\"viewer\"]".to_owned(),
        };
        // Writing to a text cannot fail.
        writeln!(text, "[[rule]]\nname = \"r{n}\"\n{agent}{matchers}").unwrap_or_default();
    }
    text
}

/// 1,000 rules that every call of a tool must be held against: patterns that begin anywhere.
pub(crate) fn worst(count: usize) -> String {
    let mut text = "version = 1\n".to_owned();
    for n in 0..count {
        let rule = format!("[[rule]]\nname = \"r{n}\"\neffect = \"deny\"\npaths = [\"**/*.k{n}\"]");
        writeln!(text, "{rule}").unwrap_or_default();
    }
    text
}
