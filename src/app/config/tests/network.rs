//! What the configuration says about other machines.

use super::*;
use crate::domain::HostRule;

fn texts(rules: &[HostRule]) -> Vec<String> {
    rules.iter().map(ToString::to_string).collect()
}

#[test]
fn domains_are_texts_or_tables_and_the_shared_variable_fills_what_is_not_set() {
    let file = "[agents.a]\nallowed_domains = [\"API.example.com.\", \"*.example.org:8443\", \
                { host = \"docs.example.com\", port = 80, methods = [\"GET\"], path = \"/v1/\" }, \
                { host = \"db.example.com\", port = 5432, allow_private = true, opaque = true }]\n\
                denied_domains = [\"ads.example.com\"]\n";
    let env = [("ALLOWED_DOMAINS", "one.example, *.two.example:8443")];
    let settings = with_file(file, &env).unwrap().settings;
    let [a, default] = settings.agents.as_slice() else { panic!("two agents") };
    assert_eq!(
        texts(&a.hosts.allow),
        [
            "api.example.com",
            "*.example.org:8443",
            "docs.example.com:80 methods=GET path=/v1",
            "db.example.com:5432 allow_private opaque",
        ]
    );
    assert_eq!(texts(&a.hosts.deny), ["ads.example.com"]);
    assert_eq!(texts(&default.hosts.allow), ["one.example", "*.two.example:8443"]);
    assert_eq!(default.hosts.deny, []);
    let nothing = with_file("", &[]).unwrap().settings;
    assert!(nothing.agents.iter().all(|agent| agent.hosts.is_empty()), "nothing by default");
}

#[test]
fn every_domain_means_public_names_at_two_ports_and_no_private_address() {
    let env = [("AGENT_RUNTIME_ALLOW_ALL_DOMAINS", "true")];
    let file = "[agents.a]\nallowed_domains = [\"a.example\"]\ndenied_domains = [\"b.example\"]\n";
    let settings = with_file(file, &env).unwrap().settings;
    assert_eq!(texts(&settings.agents[0].hosts.allow), ["a.example", "*", "*:80"]);
    assert_eq!(texts(&settings.agents[0].hosts.deny), ["b.example"], "deny still wins");
    assert!(settings.agents.iter().all(|a| a.hosts.allow.iter().all(|r| !r.allow_private)));
}

#[test]
fn what_is_wrong_with_the_network_is_named_with_its_place() {
    for (text, wanted) in [
        (
            "[agents.a]\nallowed_domains = [\"https://a.example/\"]",
            "test.toml:2: `agents.a.allowed_domains` holds",
        ),
        ("[agents.a]\nallowed_domains = [\"a.example:0\"]", "1 to 65535"),
        ("[agents.a]\nallowed_domains = [\"*.*.example\"]", "`*` stands alone"),
        ("[agents.a]\nallowed_domains = [\"b\u{fc}cher.example\"]", "ASCII"),
        ("[agents.a]\nallowed_domains = [\"010.0.0.1\"]", "number"),
        (
            "[agents.a]\nallowed_domains = [{ host = \"a.example\", prt = 1 }]",
            "unknown field `prt`",
        ),
        ("[agents.a]\nallowed_domains = [{ port = 1 }]", "missing field `host`"),
        ("[agents.a]\nallowed_domains = \"a.example\"", "must be a list such as"),
        ("[agents.a]\nallowed_domain = []", "did you mean `agents.a.allowed_domains`?"),
        ("[agents.a]\ndenied_domains = [1]", "must be a list such as"),
        ("[agents.a.egress]\nconections = 1", "did you mean `agents.a.egress.connections`?"),
        ("[sandbox]\nbackend = \"podman\"", "not sandbox, docker or local"),
        ("[sandbox]\nsessions_max = 0", "must be at least 1"),
        (
            "[egress]\nproxy_url = \"socks5://u:hidden-word@p:1\"",
            "`egress.proxy_url` is not the URL of a proxy",
        ),
        ("[egress]\nca_file = \"none.pem\"", "cannot be read"),
        ("[egress.connect_to]\n\"a.example\" = \"192.0.2.1:1\"", "write the port too"),
        ("[egress.connect_to]\n\"a.example:1\" = \"b.example:1\"", "is not an address"),
        ("[egress.secrets.k]\nvalue = \"12345678\"", "a host name is missing"),
        (
            "[egress.secrets.k]\nvalue = \"12345678\"\nhost = \"a.example\"\nport = 0",
            "between 1 and 65535",
        ),
        (
            "[egress.secrets.k]\nvalue = \"12345678\"\nhost = \"a.example\"\npath_prefix = \"v1\"",
            "must begin with `/`",
        ),
    ] {
        let error = with_file(text, &[]).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
        assert!(!error.contains("hidden-word") && !error.contains("12345678"), "{error}");
    }
}

#[test]
fn the_ways_out_are_read_and_their_secrets_are_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    secret_file::write(&file, "bound-secret-value\n").unwrap();
    let text = format!(
        "[egress.secrets.api-key]\nvalue_file = {file:?}\nhost = \"API.example.com\"\n\
         path_prefix = \"/v1/\"\n[egress.connect_to]\n\"api.example.com:443\" = \"192.0.2.7:8443\"\n\
         [agents.a]\nmay_execute_files = true\n[agents.a.egress]\nconnections = 7\n"
    );
    let env = [("AGENT_EGRESS_PROXY_URL", "http://user:hidden-word@proxy.example:3128")];
    let loaded = with_file(&text, &env).unwrap();
    let egress = &loaded.settings.egress;
    let upstream = egress.upstream.as_ref().unwrap();
    assert_eq!((upstream.host.as_str(), upstream.port), ("proxy.example", 3128));
    let [secret] = egress.secrets.as_slice() else { panic!("one secret") };
    assert_eq!((secret.name.as_str(), secret.host.as_str()), ("api-key", "api.example.com"));
    assert_eq!((secret.port, secret.path_prefix.as_str()), (443, "/v1/"));
    assert!(!secret.plain_http);
    let kept = with_file("[egress.secrets.k]\nhost = \"a.example\"", &[]).unwrap().settings.egress;
    assert_eq!((kept.secrets.len(), kept.sealed[0].name.as_str()), (0, "k"), "the store has it");
    assert_eq!(secret.value.expose(), "bound-secret-value");
    let to = egress.connect_to.iter().next().map(|(from, to)| (from.0.to_string(), to.to_string()));
    assert_eq!(to, Some(("api.example.com".to_owned(), "192.0.2.7:8443".to_owned())));
    assert!(egress.enforce_proxy && !egress.allow_all);
    let agent = &loaded.settings.agents[0];
    assert!(agent.may_execute_files);
    assert_eq!((agent.egress.connections, agent.egress.tunnels), (7, 32));
    let shown = format!("{} {:?}", show_json(&loaded.effective), show_table(&loaded.effective));
    assert!(!shown.contains("hidden-word") && !shown.contains("bound-secret"), "{shown}");
    assert_eq!(loaded.settings.worker_runtime.as_str(), "sandbox");
}

#[test]
fn the_gate_refuses_no_confinement_outside_development_and_an_open_network_in_production() {
    let refusals = |env: &[(&str, &str)]| {
        let mut problems = Problems::default();
        gate(&load(&request(None, env)).unwrap().settings, Starter::User, &mut problems);
        problems.list().iter().map(|p| p.place.clone()).collect::<Vec<_>>()
    };
    let local = ("AGENT_WORKER_RUNTIME", "local");
    let all = ("ALLOW_ALL_DOMAINS", "true");
    let open = ("ENFORCE_EGRESS_PROXY", "false");
    assert_eq!(refusals(&[local, all, open]), [""; 0], "development is free");
    let staging = ("AGENT_RUNTIME_ENV", "staging");
    assert_eq!(refusals(&[staging, local, all, open]), ["sandbox.backend"]);
    let production = ("AGENT_RUNTIME_ENV", "production");
    let token = ("AGENT_RUNTIME_AUTH_TOKEN", "0123456789-0123456789-0123456789");
    let keys = ("PERMISSION_SECRET", "0123456789-0123456789-0123456789");
    assert_eq!(refusals(&[production, token, keys]), [""; 0]);
    assert_eq!(
        refusals(&[production, token, keys, local, all, open]),
        ["sandbox.backend", "egress.allow_all_domains", "egress.enforce_proxy"]
    );
}
