//! `init`: a configuration and strong secrets for a new installation.
//!
//! Invariant: nothing that exists is replaced unless `--force` says so, except the reference file
//! as shipped, which sets nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{Context, Failure, args, out};
use crate::app::config::{DEFAULT_FILE, REFERENCE, secret_file};

pub(super) fn init(context: &Context, options: &args::Init) -> Result<ExitCode, Failure> {
    let file = context.file.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let data_dir = context.data_dir.clone().unwrap_or_else(|| PathBuf::from("data"));
    let token = data_dir.join("secrets").join("auth-token");
    let permission = data_dir.join("secrets").join("permission-secret");
    if !options.force {
        let is_reference = fs::read_to_string(&file).is_ok_and(|text| text == REFERENCE);
        for path in [&file, &token] {
            if path.exists() && !(path == &file && is_reference) {
                let what = format!("{} exists and was not changed", path.display());
                return Err(Failure::usage(what).next(
                    "use --force to replace it, or --config and --data-dir to write elsewhere",
                ));
            }
        }
    }
    if file.to_str().is_none() || data_dir.to_str().is_none() {
        return Err(Failure::usage("the paths must be UTF-8"));
    }
    private_dir(&data_dir)?;
    private_dir(&data_dir.join("secrets"))?;
    for path in [&token, &permission] {
        // What was signed or sealed with the old one would be lost: it is never replaced.
        if path == &permission && path.exists() {
            continue;
        }
        let secret = secret_file::random().map_err(|e| cannot("make", path, &e))?;
        write(path, &format!("{}\n", secret.expose()))?;
    }
    if let Some(parent) = file.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|e| cannot("create", parent, &e))?;
    }
    write(&file, &text(&data_dir, &token, &permission, options.production))?;
    out::line(format_args!(
        "wrote {}, {} and {} (0600)",
        file.display(),
        token.display(),
        permission.display()
    ));
    let config = if file == Path::new(DEFAULT_FILE) {
        String::new()
    } else {
        format!(" --config {}", file.display())
    };
    out::line(format_args!("next: agent-runtime{config} doctor, then agent-runtime{config} serve"));
    Ok(ExitCode::SUCCESS)
}

fn text(data_dir: &Path, token: &Path, permission: &Path, is_production: bool) -> String {
    let env = if is_production { "production" } else { "development" };
    let quote = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    format!(
        "# Written by `agent-runtime init`. Every setting is explained in the reference at the end.\n\
         env = \"{env}\"\ndata_dir = {}\n\n\
         [http]\naddr = \"127.0.0.1:8080\"\n\n\
         [auth]\ntoken_file = {}\n\
         # Keep a copy elsewhere: without it stored secrets cannot be read.\n\
         permission_secret_file = {}\n\n\
         # The stand-in needs no key; it is not a language model. For a real one:\n\
         # provider = \"openai\" (any compatible service) or \"anthropic\", model, api_key_file.\n\
         [llm]\nprovider = \"builtin\"\n\n\
         # Files of its workspace only. Add \"exec\" to let it run programs in the sandbox;\n\
         # those not in allowed_commands ask a person first.\n\
         [agents.default]\n\
         tools = [\"read_file\", \"list_files\", \"search_files\", \"write_file\", \"edit_file\"]\n\
         allowed_commands = []\n\n\
         # ---------------------------------------------------------------- reference\n{}",
        quote(data_dir),
        quote(token),
        quote(permission),
        REFERENCE
            .lines()
            .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("# {line}\n") })
            .collect::<String>(),
    )
}

fn private_dir(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| cannot("create", path, &e))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    secret_file::write(path, text).map_err(|e| cannot("write", path, &e))
}

fn cannot(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::fault(format!("cannot {verb} {}: {error}", path.display()))
}
