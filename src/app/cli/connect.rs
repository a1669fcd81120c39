//! Finds the daemon and a token, so that on its own machine nothing needs copying.

use std::{fs, path::PathBuf};

use super::{Context, args::Connect, failure::Failure};
use crate::{
    app::{
        client::Client,
        config::{ADDRESS_FILE, BOOTSTRAP_TOKEN_FILE, secret_file},
    },
    domain::Secret,
};

/// A client of the daemon that was named, or of the one in the data directory.
pub(super) fn client(context: &Context, connect: &Connect) -> Result<Client, Failure> {
    let env = &context.environment;
    let data_dir = context.data_dir();
    let named = connect.url.clone().or_else(|| env.text("AGENT_RUNTIME_URL").map(str::to_owned));
    let url = match named {
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => url,
        Some(url) => {
            return Err(Failure::usage(format!("`{url}` is not a URL"))
                .next("write it like http://127.0.0.1:8080"));
        }
        None => fs::read_to_string(data_dir.join(ADDRESS_FILE)).map_or_else(
            |_| "http://127.0.0.1:8080".to_owned(),
            |address| format!("http://{}", address.trim()),
        ),
    };
    let file = connect
        .token_file
        .clone()
        .or_else(|| env.text("AGENT_RUNTIME_TOKEN_FILE").map(PathBuf::from));
    let token = match (file, env.text("AGENT_RUNTIME_TOKEN")) {
        (Some(file), _) => Some(read(&file)?),
        (None, Some(token)) => Some(Secret::new(token.to_owned())),
        (None, None) => {
            let file = data_dir.join(BOOTSTRAP_TOKEN_FILE);
            if file.exists() { Some(read(&file)?) } else { configured(context)? }
        }
    };
    Ok(Client::new(&url, token)?)
}

fn read(file: &std::path::Path) -> Result<Secret<String>, Failure> {
    secret_file::read(file).map_err(|e| Failure::usage(e.to_string()))
}

/// The token of the daemon's own configuration, when this is its machine and user.
fn configured(context: &Context) -> Result<Option<Secret<String>>, Failure> {
    let loaded = context.load()?;
    Ok(loaded.settings.tokens.into_iter().next().map(|token| token.secret))
}
