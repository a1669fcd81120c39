//! `config show|check`.

use std::process::ExitCode;

use super::{Context, Failure, args, out, starter};
use crate::app::config::{self, Problems};

/// Longest value that the table shows whole; `--json` shows all.
const VALUE_CHARS: usize = 60;

pub(super) fn configuration(context: &Context, command: args::Config) -> Result<ExitCode, Failure> {
    match command {
        args::Config::Show(output) => {
            let loaded = context.load()?;
            if output.json {
                out::json(&config::show_json(&loaded.effective));
            } else {
                let mut rows = config::show_table(&loaded.effective);
                for [_, value, _] in &mut rows {
                    *value = out::short(value, VALUE_CHARS);
                }
                out::table(["KEY", "VALUE", "FROM"], &rows);
            }
        }
        args::Config::Check(check) => {
            let loaded = context.load()?;
            let mut problems = Problems::default();
            config::gate(&loaded.settings, starter(check.allow_root), &mut problems);
            if !problems.list().is_empty() {
                return Err(problems.into());
            }
            let file =
                loaded.file.map_or_else(|| "no file".to_owned(), |f| f.display().to_string());
            out::line(format_args!("the configuration is good ({file})"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
