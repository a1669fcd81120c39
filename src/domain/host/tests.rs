use proptest::prelude::*;

use super::*;

fn host(text: &str) -> HostName {
    HostName::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn rule(text: &str) -> HostRule {
    HostRule::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn policy(allow: &[&str], deny: &[&str]) -> HostPolicy {
    let rules = |list: &[&str]| list.iter().map(|text| rule(text)).collect();
    HostPolicy { allow: rules(allow), deny: rules(deny) }
}

/// The rule that lets a request through, or the code of the reason that does not.
fn decided(policy: &HostPolicy, to: &Destination<'_>) -> String {
    match policy.decide(to) {
        HostVerdict::Allow { rule } => rule.to_string(),
        HostVerdict::Deny(denial) => denial.code().to_owned(),
    }
}

fn tunnel(policy: &HostPolicy, name: &str, port: u16) -> String {
    decided(policy, &Destination::tunnel(&host(name), port))
}

fn request(policy: &HostPolicy, method: &str, path: &str) -> String {
    decided(policy, &Destination::request(&host("api.test"), 443, method, path))
}

#[test]
fn each_spelling_of_a_host_becomes_the_same_text() {
    for (text, wanted) in [
        ("api.github.com", "api.github.com"),
        ("API.GitHub.COM.", "api.github.com"),
        ("localhost", "localhost"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("1a.2b", "1a.2b"),
        ("0x.example", "0x.example"),
        ("a.0x7g", "a.0x7g"),
        ("1.2.3.4", "1.2.3.4"),
        ("255.255.255.255", "255.255.255.255"),
        ("[2606:4700::1111]", "2606:4700::1111"),
        ("2606:4700::1111", "2606:4700::1111"),
        ("[2001:DB8::A]", "2001:db8::a"),
        ("::1", "::1"),
    ] {
        assert_eq!(host(text).as_str(), wanted, "{text}");
    }
    assert_eq!(host("[::1]").authority(), "[::1]");
    assert_eq!(host("[::1]").ip().unwrap().to_string(), "::1");
    assert_eq!(host("1.2.3.4").ip().unwrap().to_string(), "1.2.3.4");
    assert_eq!(host("1.2.3.4.example").ip(), None);
    let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    assert_eq!(host(&format!("{longest}.")).as_str().len(), 253);
}

#[test]
fn what_is_not_a_host_in_its_one_form_is_refused_with_the_nearest_fix() {
    let long = "a".repeat(64);
    let too_long = format!("{0}.{0}.{0}.{0}", "a".repeat(63));
    for (text, wanted) in [
        ("", "missing"),
        (".", "extra dot"),
        (".a", "extra dot"),
        ("a..b", "extra dot"),
        ("a..", "extra dot"),
        (&*long, "63"),
        (&*too_long, "253"),
        ("-a.example", "hyphen"),
        ("a-.example", "hyphen"),
        ("a_b.example", "'_'"),
        ("_dmarc.example", "'_'"),
        ("a b", "' '"),
        ("a\tb", "'\\t'"),
        ("a\0.example", "'\\0'"),
        ("evil.test\0.example", "'\\0'"),
        ("a%2eb", "'%'"),
        ("a%00b", "'%'"),
        ("a\\b", "'\\\\'"),
        ("a/b", "'/'"),
        ("a?b", "'?'"),
        ("a#b", "'#'"),
        ("*.example", "'*'"),
        ("user@example", "user name"),
        ("api.example@evil.test", "user name"),
        ("https://example/", "not a URL"),
        ("example:443", "no port"),
        ("bücher.example", "write `xn--bcher-kva.example`"),
        ("аpple.com", "write `xn--pple-43d.com`"),
        ("example。com", "write `example.com`"),
        ("ⓔxample.com", "write `example.com`"),
        ("ex\u{ad}ample.com", "write `example.com`"),
        ("0x7f.1", "write `127.0.0.1`"),
        ("0x7f000001", "write `127.0.0.1`"),
        ("2130706433", "write `127.0.0.1`"),
        ("127.1", "write `127.0.0.1`"),
        ("0177.0.0.1", "write `127.0.0.1`"),
        ("127.0.0.01", "write `127.0.0.1`"),
        ("1.2.3.4.", "write `1.2.3.4`"),
        ("1.2.3.0x", "write `1.2.3.0`"),
        ("1.2.3", "write `1.2.0.3`"),
        ("1.2.3.256", "four decimal numbers"),
        ("1.2.3.4.5", "four decimal numbers"),
        ("example.1", "four decimal numbers"),
        ("example.0xff", "four decimal numbers"),
        ("[::1", "IPv6"),
        ("[1.2.3.4]", "IPv6"),
        ("[::1]x", "IPv6"),
        ("[]", "IPv6"),
        ("::ffff:1.2.3.4", "write the IPv4 address itself: `1.2.3.4`"),
        ("[::ffff:7f00:1]", "`127.0.0.1`"),
        ("::1.2.3.4", "write `::102:304`"),
        ("0:0:0:0:0:0:0:1", "write `::1`"),
        ("2606::0001", "write `2606::1`"),
        ("fe80::1%eth0", "remove the `%`"),
        ("[fe80::1%25eth0]", "remove the `%`"),
        ("a:b:c", "IPv6"),
    ] {
        let error = HostName::parse(text).expect_err(text).to_string();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
}

#[test]
fn a_rule_reads_back_as_it_is_shown() {
    for text in [
        "api.github.com",
        "api.github.com:443",
        "*.example.com:8443",
        "*",
        "*:80",
        "1.2.3.4:80",
        "[2606::1]",
        "[2606::1]:443 allow_private",
        "api.test methods=GET,HEAD path=/v1/users allow_private opaque",
        "api.test path=/",
        "api.test opaque",
    ] {
        assert_eq!(rule(text).to_string(), text);
        let json = serde_json::to_string(&rule(text)).unwrap();
        assert_eq!(serde_json::from_str::<HostRule>(&json).unwrap(), rule(text));
    }
    assert_eq!(
        rule("API.Test. methods=HEAD,GET path=/v1/").to_string(),
        "api.test methods=GET,HEAD path=/v1"
    );
    assert_eq!(rule("2606::1").to_string(), "[2606::1]");
}

#[test]
fn a_rule_as_a_table_is_the_same_rule() {
    let table = r#"{"host": "API.test", "port": 8443, "methods": ["GET"], "path": "/v1",
                    "allow_private": true, "opaque": true}"#;
    let wanted = rule("api.test:8443 methods=GET path=/v1 allow_private opaque");
    assert_eq!(serde_json::from_str::<HostRule>(table).unwrap(), wanted);
    assert_eq!(
        serde_json::from_str::<HostRule>(r#"{"host": "a.test:80"}"#).unwrap(),
        rule("a.test:80")
    );
    for (table, wanted) in [
        (r#"{"host": "a.test:80", "port": 80}"#, "port stands in `host`"),
        (r#"{"host": "a.test", "port": 0}"#, "1 to 65535"),
        (r#"{"host": "a.test", "method": "GET"}"#, "unknown field"),
        (r#"{"host": "a.test", "path": "v1"}"#, "begins with `/`"),
        (r#"{"host": "a.test", "path": "/a/../b"}"#, "write where it leads"),
        (r#"{"host": "a.test", "methods": ["get"]}"#, "upper case"),
        (r#"{"host": "a.test", "methods": ["CONNECT"]}"#, "CONNECT"),
        ("{}", "missing field"),
        ("7", "a host such as"),
    ] {
        let error = serde_json::from_str::<HostRule>(table).expect_err(table).to_string();
        assert!(error.contains(wanted), "{table}: {error}");
    }
}

#[test]
fn what_is_no_rule_says_what_to_write() {
    for (text, wanted) in [
        ("", "missing"),
        ("https://api.test", "not a URL"),
        ("api.test/v1", "write `path=/"),
        ("api.*.test", "`*` stands alone"),
        ("*api.test", "`*` stands alone"),
        ("*.*.test", "`*` stands alone"),
        ("**", "`*` stands alone"),
        ("*.", "missing"),
        ("*.1.2.3.4", "below an IP"),
        ("api.test:", "1 to 65535"),
        ("api.test:0", "1 to 65535"),
        ("api.test:080", "1 to 65535"),
        ("api.test:+80", "1 to 65535"),
        ("api.test:65536", "1 to 65535"),
        ("api.test:*", "1 to 65535"),
        ("[::1]:x", "1 to 65535"),
        ("api.test  opaque", "``"),
        ("api.test opaque allow_private", "`allow_private`"),
        ("api.test private", "`private`"),
        ("api.test opaque2", "`2`"),
        ("api.test methods=", "``"),
        ("api.test methods=GET,GET", "each once"),
        ("api.test path=v1", "begins with `/`"),
        ("api.test path=/a?b", "'?'"),
    ] {
        let error = HostRule::parse(text).expect_err(text).to_string();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
}

#[test]
fn an_empty_policy_allows_nothing_and_everybody_is_a_star() {
    assert_eq!(tunnel(&policy(&[], &[]), "api.test", 443), "not_listed");
    let all = policy(&["*"], &[]);
    assert_eq!(tunnel(&all, "api.test", 443), "*");
    assert_eq!(tunnel(&all, "api.test", 80), "not_listed");
    assert_eq!(tunnel(&all, "1.2.3.4", 443), "not_listed");
    assert_eq!(tunnel(&all, "[2606::1]", 443), "not_listed");
    assert_eq!(tunnel(&policy(&["1.2.3.4"], &[]), "1.2.3.4", 443), "1.2.3.4");
}

#[test]
fn a_suffix_covers_names_below_it_at_a_label_and_not_itself() {
    let below = policy(&["*.example.com"], &[]);
    for name in ["a.example.com", "A.B.Example.com."] {
        assert_eq!(tunnel(&below, name, 443), "*.example.com", "{name}");
    }
    for name in ["example.com", "badexample.com", "example.com.evil.test", "com", "1.2.3.4"] {
        assert_eq!(tunnel(&below, name, 443), "not_listed", "{name}");
    }
}

#[test]
fn the_rule_that_names_the_host_most_closely_is_the_one_that_counts() {
    let rules =
        policy(&["*", "*.test", "*.b.test opaque", "a.b.test allow_private", "a.b.test"], &[]);
    for (name, wanted) in [
        ("a.b.test", "a.b.test allow_private"),
        ("c.b.test", "*.b.test opaque"),
        ("b.test", "*.test"),
        ("test", "*"),
    ] {
        assert_eq!(tunnel(&rules, name, 443), wanted, "{name}");
    }
    // A closer rule that does not fit leaves it to a wider one.
    let rules = policy(&["*", "a.test:80", "a.test methods=GET"], &[]);
    assert_eq!(tunnel(&rules, "a.test", 443), "*");
}

#[test]
fn deny_wins_on_every_port_unless_it_names_one() {
    let both = policy(&["*", "*:80", "*.test:8443", "9.9.9.9"], &["bad.test", "half.test:80"]);
    for port in [443, 80, 8443] {
        assert_eq!(tunnel(&both, "bad.test", port), "denied_by_rule");
    }
    assert_eq!(tunnel(&both, "a.bad.test", 443), "*");
    assert_eq!(tunnel(&both, "half.test", 80), "denied_by_rule");
    assert_eq!(tunnel(&both, "half.test", 443), "*");
    assert_eq!(tunnel(&both, "9.9.9.9", 443), "9.9.9.9");
    let nothing = policy(&["*", "9.9.9.9"], &["*"]);
    assert_eq!(tunnel(&nothing, "a.test", 443), "denied_by_rule");
    assert_eq!(tunnel(&nothing, "9.9.9.9", 443), "denied_by_rule");
}

#[test]
fn methods_and_paths_are_compared_exactly_and_no_tunnel_passes_them() {
    let api = policy(&["api.test methods=GET,HEAD path=/v1"], &[]);
    let text = "api.test methods=GET,HEAD path=/v1";
    for path in ["/v1", "/v1/", "/v1/a", "/v1?q=/../x", "/%761/a", "/v1/%41"] {
        assert_eq!(request(&api, "GET", path), text, "{path}");
    }
    for path in ["/", "/v", "/v10", "/V1", "/v1;a", "/v1%3fq", "/v2/v1"] {
        assert_eq!(request(&api, "GET", path), "path_not_allowed", "{path}");
    }
    for path in [
        "/v1/../a",
        "/v1/%2e%2e/a",
        "/v1/.%2E/a",
        "/v1//a",
        "/v1/a\\..\\b",
        "/v1/..;/a",
        "/v1/;/a",
        "/v1/%2fa",
        "/v1/%5c",
        "/v1/%252e",
        "/v1/%00",
        "/v1/..%3bx/a",
        "/v1/%",
        "/v1/%g0",
        "/v1/ü",
        "/v1/a b",
        "v1",
        "",
        "/v1/.",
        "/v1/..",
    ] {
        let api_test = host("api.test");
        let to = Destination::request(&api_test, 443, "GET", path);
        let HostVerdict::Deny(denial) = api.decide(&to) else { panic!("{path} is allowed") };
        assert!(matches!(denial, HostDenial::AmbiguousPath { .. }), "{path}: {denial}");
    }
    for method in ["POST", "get", "GET ", ""] {
        assert_eq!(request(&api, method, "/v1"), "method_not_allowed", "{method}");
    }
    assert_eq!(tunnel(&api, "api.test", 443), "method_not_allowed");
    assert_eq!(tunnel(&policy(&["api.test path=/v1"], &[]), "api.test", 443), "path_not_allowed");
    // A wider rule beside it lets through what the narrow one does not.
    let wider = policy(&["api.test path=/v1", "*.test"], &[]);
    assert_eq!(request(&wider, "GET", "/v1/../x"), "*.test");
    assert_eq!(tunnel(&wider, "api.test", 443), "*.test");
}

#[test]
fn a_denied_path_cannot_be_reached_by_writing_it_otherwise_or_in_a_tunnel() {
    let api = policy(&["api.test"], &["api.test path=/admin"]);
    for path in ["/admin", "/admin/x", "/%61dmin", "/a/../admin", "//admin", "/x/%2e%2e/admin"] {
        assert_eq!(request(&api, "GET", path), "denied_by_rule", "{path}");
    }
    assert_eq!(request(&api, "GET", "/administer"), "api.test");
    assert_eq!(tunnel(&api, "api.test", 443), "denied_by_rule");
    let api = policy(&["api.test"], &["api.test methods=DELETE"]);
    assert_eq!(request(&api, "DELETE", "/x"), "denied_by_rule");
    assert_eq!(request(&api, "Delete", "/x"), "denied_by_rule");
    assert_eq!(request(&api, "GET", "/x"), "api.test");
}

#[test]
fn a_name_may_be_looked_up_if_it_could_be_reached() {
    let both = policy(
        &["a.test methods=GET", "*.b.test:8443", "c.test", "d.test", "d.test:80"],
        &["c.test", "d.test:80", "x.b.test methods=PUT"],
    );
    let resolved = |name: &str| match both.may_resolve(&host(name)) {
        HostVerdict::Allow { rule } => rule.to_string(),
        HostVerdict::Deny(denial) => denial.code().to_owned(),
    };
    assert_eq!(resolved("a.test"), "a.test methods=GET");
    assert_eq!(resolved("x.b.test"), "*.b.test:8443");
    assert_eq!(resolved("b.test"), "not_listed");
    assert_eq!(resolved("c.test"), "denied_by_rule");
    assert_eq!(resolved("d.test"), "d.test");
    assert_eq!(resolved("evil.test"), "not_listed");
}

#[test]
fn a_denial_says_what_to_do() {
    let rules = policy(&["a.test", "b.test methods=GET", "b.test:81"], &["c.test"]);
    for (name, port, wanted) in [
        ("a.test", 80, "only `a.test`: ports are compared exactly"),
        ("b.test", 443, "use `http_request`"),
        ("c.test", 443, "deny wins"),
        ("d.test", 443, "no rule allows d.test:443"),
        ("[2606::1]", 443, "no rule allows [2606::1]:443"),
    ] {
        let host = host(name);
        let HostVerdict::Deny(denial) = rules.decide(&Destination::tunnel(&host, port)) else {
            panic!("{name} is allowed")
        };
        assert!(denial.to_string().contains(wanted), "{denial}");
    }
}

#[test]
fn a_policy_reads_back_and_refuses_what_it_does_not_know() {
    let rules = policy(&["*.a.test", "b.test:80 methods=GET"], &["x.a.test"]);
    let json = serde_json::to_value(&rules).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"allow": ["*.a.test", "b.test:80 methods=GET"], "deny": ["x.a.test"]})
    );
    assert_eq!(serde_json::from_value::<HostPolicy>(json).unwrap(), rules);
    assert_eq!(serde_json::from_str::<HostPolicy>("{}").unwrap(), HostPolicy::default());
    assert!(serde_json::from_str::<HostPolicy>(r#"{"allowed": []}"#).is_err());
    assert!(serde_json::from_str::<HostName>("\"1.2.3.04\"").is_err());
}

/// Texts near to hosts: labels, numbers, dots and what else confuses.
fn near_hosts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z0-9-]{1,6}",
        2 => Just(".".to_owned()),
        1 => prop_oneof!["0x[0-9a-f]{0,4}", "0[0-7]{1,3}", "[0-9]{1,10}"],
        1 => prop_oneof![Just("[".to_owned()), Just("]".to_owned()), Just("::".to_owned()), Just(":".to_owned())],
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

fn names() -> impl Strategy<Value = HostName> {
    let text = prop_oneof![
        4 => "[a-c](\\.[a-c]){0,3}",
        1 => "[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z]{1,5}){1,3}",
    ];
    text.prop_filter_map("a name", |text| HostName::parse(&text).ok())
}

fn hosts() -> impl Strategy<Value = HostName> {
    let ip = any::<std::net::IpAddr>()
        .prop_filter_map("no mapped address", |ip| HostName::from_ip(ip).ok());
    prop_oneof![4 => names(), 1 => ip]
}

fn rules() -> impl Strategy<Value = HostRule> {
    let pattern = prop_oneof![
        hosts().prop_map(HostPattern::Exact),
        names().prop_map(HostPattern::Below),
        Just(HostPattern::Any),
    ];
    let port = prop::option::of(prop_oneof![Just(443_u16), Just(80), 1..u16::MAX]);
    let methods = prop::sample::subsequence(vec!["DELETE", "GET", "M-SEARCH", "POST"], 0..4);
    let path = prop::option::of("(/[a-c]{1,2}){1,3}");
    (pattern, port, methods, path, any::<bool>(), any::<bool>()).prop_map(
        |(host, port, methods, path, allow_private, opaque)| HostRule {
            methods: methods.into_iter().map(str::to_owned).collect(),
            path,
            allow_private,
            opaque,
            ..HostRule::new(host, port)
        },
    )
}

fn policies() -> impl Strategy<Value = HostPolicy> {
    let list = || prop::collection::vec(rules(), 0..4);
    (list(), list()).prop_map(|(allow, deny)| HostPolicy { allow, deny })
}

proptest! {
    #[test]
    fn the_canonical_form_of_a_host_is_its_own(text in near_hosts()) {
        fuzzing::host_text(&text);
    }

    #[test]
    fn the_canonical_form_of_a_path_is_its_own(text in "(/|[a-zA-Z.;%\\\\ü~ -]|%[0-9a-fA-F]{2}|\\.\\.){0,12}") {
        fuzzing::path(&text);
    }

    #[test]
    fn a_shown_rule_is_the_same_rule(rule in rules()) {
        prop_assert_eq!(HostRule::parse(&rule.to_string()), Ok(rule.clone()));
        let json = serde_json::to_string(&rule).unwrap();
        prop_assert_eq!(serde_json::from_str::<HostRule>(&json).unwrap(), rule);
    }

    #[test]
    fn a_suffix_never_matches_inside_a_label(parent in names(), host in hosts()) {
        let is_below = host.as_str().ends_with(&format!(".{parent}"));
        prop_assert_eq!(HostPattern::Below(parent.clone()).allows(&host), is_below);
        prop_assert!(!HostPattern::Below(parent.clone()).allows(&parent));
    }

    #[test]
    fn no_policy_breaks_the_laws(
        policy in policies(),
        host in hosts(),
        port in prop_oneof![Just(443_u16), Just(80), any::<u16>()],
        request in prop::option::of(("(GET|POST|get)", "(/[a-c.]{0,2}){1,3}")),
    ) {
        let to = match &request {
            None => Destination::tunnel(&host, port),
            Some((method, path)) => Destination::request(&host, port, method, path),
        };
        fuzzing::policy(&policy, &to);
    }
}
