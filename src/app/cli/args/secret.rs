//! `secret …`.

use clap::{Args, Subcommand};

use super::Output;
use crate::domain::SecretName;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
The daemon keeps secrets sealed (AES-256-GCM) under a key that is made from the permission secret. A
model takes one with api_key_secret = \"NAME\", and a binding [egress.secrets.NAME] without a value
takes the one of its own name. A value is read from standard input, never from the command line, and
is never shown again. docs/SECRETS.md says how to replace each kind.

Examples:
  agent-runtime secret set api-key < key.txt
  agent-runtime secret list
  agent-runtime secret reload                   after a secret file was replaced
  agent-runtime secret rotate-key               seal all of them anew
  agent-runtime secret remove api-key

It speaks to the daemon over <data_dir>/admin.sock: run it as the daemon's user or as root, and name
the data directory with --data-dir or --config where it is not ./data.")]
pub(crate) enum Secret {
    /// Store a secret; its value comes from standard input, a line break at its end does not count
    Set(SecretSet),
    /// List every secret, of the configuration and stored: where from, how old, last used
    List(Output),
    /// Remove a stored secret
    Remove(SecretSet),
    /// Seal every stored secret anew, under the permission secret in force
    RotateKey(Output),
    /// Let the daemon read configuration and secrets again, as SIGHUP does
    Reload(Output),
}

#[derive(Debug, Args)]
pub(crate) struct SecretSet {
    /// Its name: letters, digits, `-` and `_`
    pub(crate) name: SecretName,
}
