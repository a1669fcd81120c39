mod network;

use std::path::{Path, PathBuf};

use super::{
    env::known_variables,
    keys::{KEYS, Kind, OTHER_VARIABLES, PREFIX, matches},
    *,
};

fn request(file: Option<&Path>, env: &[(&str, &str)]) -> Request {
    Request {
        file: file.map(Path::to_owned),
        environment: Environment::of(env),
        dotenv: None,
        overrides: Vec::new(),
    }
}

fn with_file(text: &str, env: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.toml");
    secret_file::write(&path, text).unwrap();
    load(&request(Some(&path), env))
}

/// The reference with every setting switched on.
fn uncommented() -> String {
    let active = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    REFERENCE.lines().map(active).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_reference_file_holds_every_key_with_its_default_and_no_other() {
    let mut problems = Problems::default();
    let values = file::parse(Path::new("reference"), &uncommented(), &mut problems);
    assert_eq!(problems.list(), []);
    let examples =
        ["models.fast.", "auth.tokens.ci.", "egress.secrets.api-key.", "budget.principals.ci."];
    for key in KEYS {
        let mut found = values.iter().filter(|(path, _)| {
            let base = path.strip_suffix("_file").filter(|_| key.kind == Kind::Secret);
            matches(key.path, path) || base.is_some_and(|b| matches(key.path, b))
        });
        let (path, value) = found.next().unwrap_or_else(|| panic!("{} is missing", key.path));
        if !examples.iter().any(|e| path.starts_with(e)) && key.kind != Kind::Secret {
            assert_eq!(value.value, resolve::text_value(key.kind, key.default).unwrap(), "{path}");
        }
    }
}

#[test]
fn the_reference_as_shipped_changes_nothing() {
    let mut problems = Problems::default();
    assert!(file::parse(Path::new("reference"), REFERENCE, &mut problems).is_empty());
    assert_eq!(problems.list(), []);
}

#[test]
fn env_example_holds_every_variable_and_no_other() {
    let example = include_str!("../../../.env.example");
    let mut named: Vec<String> = example
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.starts_with(PREFIX))
        .collect();
    let mut known: Vec<String> = known_variables(&["default".to_owned()])
        .into_iter()
        .filter(|k| k != "AGENT_RUNTIME_CALL_ID")
        .collect();
    named.sort();
    known.sort();
    assert_eq!(named, known);
    assert!(OTHER_VARIABLES.contains(&"CALL_ID"));
}

#[test]
fn every_alias_is_written_down() {
    let documents = format!("{REFERENCE}{}", include_str!("../../../.env.example"));
    for alias in KEYS.iter().flat_map(|k| k.aliases) {
        assert!(documents.contains(&alias.replace('*', "<NAME>")), "{alias}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_key() {
    let error = with_file("env = \"development\"\n[http]\nadr = \"x\"\n", &[]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("test.toml:3: unknown key `http.adr`: did you mean `http.addr`?"),
        "{text}"
    );
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest_one() {
    let error = with_file("", &[("AGENT_RUNTIME_LOGLEVEL", "debug")]).unwrap_err().to_string();
    assert!(error.contains("did you mean `AGENT_RUNTIME_LOG_LEVEL`?"), "{error}");
    assert!(with_file("", &[("OTHER_LOGLEVEL", "debug")]).is_ok());
}

#[test]
fn later_sources_win_and_the_origin_says_which() {
    let file = "[log]\nlevel = \"debug\"\n[http]\naddr = \"127.0.0.1:1\"\n";
    let mut request = request(None, &[("AGENT_RUNTIME_LOG_LEVEL", "trace")]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.toml");
    std::fs::write(&path, file).unwrap();
    let dotenv = "AGENT_RUNTIME_LOG_LEVEL=error\nAGENT_RUNTIME_ENV=staging\n";
    secret_file::write(&dir.path().join(".env"), dotenv).unwrap();
    request.file = Some(path.clone());
    request.dotenv = Some(dir.path().to_owned());
    let value = "/tmp/elsewhere".to_owned();
    request.overrides = vec![Override { key: "data_dir", option: "--data-dir", value }];
    let loaded = load(&request).unwrap();
    assert_eq!(loaded.settings.log_level, "trace");
    assert_eq!(loaded.settings.mode, Mode::Staging);
    assert_eq!(loaded.settings.data_dir, PathBuf::from("/tmp/elsewhere"));
    let origin = |key: &str| loaded.effective[key].origin.to_string();
    assert_eq!(origin("log.level"), "environment AGENT_RUNTIME_LOG_LEVEL");
    assert_eq!(origin("env"), format!("{} AGENT_RUNTIME_ENV", dir.path().join(".env").display()));
    assert_eq!(origin("http.addr"), format!("{}:4", path.display()));
    assert_eq!(origin("data_dir"), "--data-dir");
    assert_eq!(origin("limits.active_runs"), "default");
}

#[test]
fn a_secret_comes_from_one_place_and_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    secret_file::write(&path, "another-long-token-1234\n").unwrap();
    let file = path.to_str().unwrap();
    let one = [("GATEWAY_AUTH_TOKEN_FILE", file)];
    let loaded = with_file("", &one).unwrap();
    assert_eq!(loaded.settings.tokens[0].secret.expose(), "another-long-token-1234");
    let shown = format!("{} {:?}", show_json(&loaded.effective), show_table(&loaded.effective));
    assert!(!shown.contains("another-long"), "{shown}");
    let same = [one[0], ("AGENT_RUNTIME_AUTH_TOKEN", "another-long-token-1234")];
    assert!(with_file("", &same).is_ok());
    let differ = [one[0], ("AGENT_RUNTIME_AUTH_TOKEN", "a-different-token-12345")];
    let error = with_file("", &differ).unwrap_err().to_string();
    assert!(error.contains("both set and differ") && !error.contains("a-different"), "{error}");
}

#[test]
fn what_does_not_fit_is_named_with_its_place() {
    for (text, wanted) in [
        ("database_url = \"mysql://db/x\"", "must be postgres://"),
        ("[http]\naddr = \"nowhere\"", "test.toml:2: `http.addr` = `nowhere` is not an address"),
        ("[agents.a]\ntools = [\"exec\", \"fly\"]", "holds `fly`, which is not a tool"),
        ("[agents.a]\nmodel = \"huge\"", "`huge` is not in [models]"),
        ("[agents.A]\nmodel = \"default\"", "`A` is not a name"),
        ("[agents.a]\nworkspace = \"../b\"", "must be a name"),
        ("[llm]\nprovider = \"openai\"", "needs a model"),
        ("[llm]\nprovider = \"gpt\"", "not a provider"),
        ("[limits]\nactive_runs = 0", "must be at least 1"),
        ("[limits]\nactive_runs = -1", "must be a whole number"),
        ("[auth]\ntoken = \"short\"", "shorter than"),
        ("[auth]\npermission_secret = \"short\"", "is shorter than 32 characters"),
        ("http = 1", "must be a table"),
        ("[http", "test.toml:1"),
    ] {
        let error = with_file(text, &[]).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn the_short_form_of_a_model_and_the_shared_lists_fill_what_is_not_set() {
    let file = "[llm]\nprovider = \"anthropic\"\nmodel = \"m\"\n[agents.a]\nallowed_commands = [\"ls\"]\n\
                [[auth.tokens]]\nname = \"ci\"\nrole = \"member\"\ntoken = \"0123456789abcdef\"\n";
    let env = [("ALLOWED_COMMANDS", "cat, wc"), ("AGENT_RUNTIME_PROVIDERS_DEFAULT_API_KEY", "k")];
    let settings = with_file(file, &env).unwrap().settings;
    let model = &settings.models["default"];
    assert_eq!((model.provider, model.model.as_str()), (crate::llm::Provider::Anthropic, "m"));
    assert_eq!(model.api_key.as_ref().unwrap().expose(), "k");
    let commands: Vec<_> = settings.agents.iter().map(|a| a.allowed_commands.join(" ")).collect();
    assert_eq!(commands, ["ls", "cat wc"]);
    assert_ne!(settings.agents[0].version, settings.agents[1].version);
    assert_eq!(settings.tokens[0].name, "ci");
}

#[test]
fn the_gate_refuses_what_no_setting_may_allow() {
    let refusals = |env: &[(&str, &str)], starter| {
        let mut problems = Problems::default();
        gate(&load(&request(None, env)).unwrap().settings, starter, &mut problems);
        problems.list().iter().map(|p| p.place.clone()).collect::<Vec<_>>()
    };
    let open = ("AGENT_RUNTIME_HTTP_ADDR", "0.0.0.0:80");
    let production = ("AGENT_RUNTIME_ENV", "production");
    assert_eq!(refusals(&[], Starter::User), [""; 0]);
    assert_eq!(refusals(&[], Starter::RootAllowed), [""; 0]);
    assert_eq!(refusals(&[], Starter::Root), ["user"]);
    assert_eq!(refusals(&[open], Starter::User), ["http.addr"]);
    assert_eq!(
        refusals(&[open, ("AGENT_RUNTIME_TRUSTED_PROXY", "10.0.0.1")], Starter::User),
        [""; 0]
    );
    let none = ["auth.token", "auth.permission_secret"];
    assert_eq!(refusals(&[production], Starter::User), none);
    let weak = ("AGENT_RUNTIME_AUTH_TOKEN", "change_this_change_this_change_this");
    let weak_too = ("PERMISSION_SECRET", "Change-This-change-this-change-this");
    let places = ["auth.permission_secret", "auth"];
    assert_eq!(refusals(&[production, weak, weak_too], Starter::User), places);
    let good = ("PERMISSION_SECRET", "0123456789-0123456789-0123456789");
    assert_eq!(refusals(&[production, weak, good], Starter::User), ["auth"]);
    let plain = ("AGENT_RUNTIME_DATABASE_URL", "postgres://me@db.example/a");
    assert_eq!(refusals(&[plain], Starter::User), [""; 0]);
    let places = ["database_url", "auth"];
    assert_eq!(refusals(&[production, weak, good, plain], Starter::User), places);
}

#[test]
fn an_allowed_path_may_not_show_the_data_directory_nor_lead_over_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(base.join("state/data")).unwrap();
    std::fs::create_dir(base.join("srv")).unwrap();
    std::os::unix::fs::symlink(base.join("srv"), base.join("link")).unwrap();
    std::os::unix::fs::symlink(base.join("state"), base.join("other")).unwrap();
    for (path, complaint) in [
        ("srv", None),
        ("srv/later", None),
        ("", Some("show the data directory")),
        ("state", Some("show the data directory")),
        ("state/data", Some("show the data directory")),
        ("other", Some("show the data directory")),
        ("srv/../state", Some("show the data directory")),
        ("link", Some("is a link")),
        ("link/later", Some("is a link")),
    ] {
        let path = base.join(path);
        let text = format!(
            "data_dir = {:?}\n[agents.default]\nallowed_paths = [{{path = {path:?}, access = \"ro\"}}]\n",
            base.join("other/data"),
        );
        let said = with_file(&text, &[]).map_err(|problems| problems.to_string()).err();
        match (complaint, said) {
            (None, None) => {}
            (Some(wanted), Some(said)) => assert!(said.contains(wanted), "{path:?}: {said}"),
            (wanted, said) => panic!("{path:?}: {wanted:?}, {said:?}"),
        }
    }
}

#[test]
fn a_file_that_holds_a_secret_itself_must_be_ours_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (config, dotenv) = (dir.path().join("c.toml"), dir.path().join(".env"));
    std::fs::write(&config, "[auth]\ntoken = \"0123456789abcdef\"\n").unwrap();
    std::fs::write(&dotenv, "AGENT_RUNTIME_LLM_API_KEY=0123456789\n").unwrap();
    let load_with = |modes: [u32; 2]| {
        for (path, mode) in [&config, &dotenv].into_iter().zip(modes) {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let dotenv = Some(dir.path().to_owned());
        load(&Request { dotenv, ..request(Some(&config), &[]) })
    };
    assert!(load_with([0o600, 0o600]).is_ok());
    for (modes, name) in [([0o640, 0o600], "c.toml"), ([0o600, 0o604], ".env")] {
        let error = load_with(modes).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains(name), "{error}");
        assert!(!error.contains("0123456789"), "{error}");
    }
}

#[test]
fn a_named_provider_takes_its_key_from_its_own_variable_or_alias() {
    let file = "[models.my-fast]\nprovider = \"openai\"\nmodel = \"m\"\n";
    for name in ["AGENT_RUNTIME_PROVIDERS_MY_FAST_API_KEY", "PICOCLAW_PROVIDERS_MY_FAST_API_KEY"] {
        let settings = with_file(file, &[(name, "the-key")]).unwrap().settings;
        let key = settings.models["my-fast"].api_key.as_ref();
        assert_eq!(key.map(|k| k.expose().as_str()), Some("the-key"), "{name}");
    }
}

#[test]
fn dotenv_must_be_ours_alone_and_the_file_may_be_written_by_nobody_else() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (config, dotenv) = (dir.path().join("c.toml"), dir.path().join(".env"));
    std::fs::write(&config, "[log]\nlevel = \"debug\"\n").unwrap();
    std::fs::write(&dotenv, "AGENT_RUNTIME_ENV=staging\n").unwrap();
    let load_with = |modes: [u32; 2]| {
        for (path, mode) in [&config, &dotenv].into_iter().zip(modes) {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let dotenv = Some(dir.path().to_owned());
        load(&Request { dotenv, ..request(Some(&config), &[]) })
    };
    assert!(load_with([0o644, 0o600]).is_ok(), "without a secret others may read the file");
    for (modes, name) in [([0o664, 0o600], "c.toml"), ([0o644, 0o604], ".env")] {
        let error = load_with(modes).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains(name), "{error}");
    }
}

#[test]
fn a_model_names_a_stored_secret_or_has_a_key_of_its_own() {
    let model = "[models.m]\nprovider = \"openai\"\nmodel = \"m\"\napi_key_secret = \"KEY\"\n";
    let settings = with_file(model, &[]).unwrap().settings;
    assert_eq!(settings.model_secrets["m"].as_str(), "KEY");
    let both = format!("{model}api_key = \"0123456789\"\n");
    let error = with_file(&both, &[]).unwrap_err().to_string();
    assert!(error.contains("keep one of them"), "{error}");
    let wrong = with_file(&model.replace("KEY", "a key"), &[]).unwrap_err().to_string();
    assert!(wrong.contains("letters, digits"), "{wrong}");
}
