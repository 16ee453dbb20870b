//! Real tools against the real broker: dig, curl and promtool.

use nearmost_tests::process::{Broker, directory};
use nearmost_tests::service::Service;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const DOMAIN: &str = "play.example.com";

async fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().await;
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}; `cargo xtask test` installs it"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn dig(broker: &Broker, args: &[&str]) -> String {
    let at = broker.at.dns[0];
    let (ip, port) = (format!("@{}", at.ip()), at.port().to_string());
    let mut all = vec![ip.as_str(), "-p", port.as_str(), "+tries=1", "+time=2"];
    all.extend(args);
    run("dig", &all).await
}

#[tokio::test]
async fn dig_curl_and_promtool_are_content() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    let service = Service::start("127.0.28.1:0", "one").await;
    let long = "t".repeat(250);
    let records: String = (0..8)
        .map(|i| format!("[[domain.records]]\nname = \"big\"\ntype = \"TXT\"\nvalue = \"{i}{long}\"\n"))
        .collect();
    broker
        .apply(
            &format!(
                "version = 1\n[[domain]]\nname = {DOMAIN:?}\nalpn = [\"h2\"]\nredirect_hosts = [\"www.example.org\"]\n{records}\
                 [[mirror]]\ndomain = {DOMAIN:?}\nname = \"m\"\naddresses = [\"127.0.28.1\"]\nport = {}\n\
                 health = \"probe\"\nprobe = {{ kind = \"http\", path = \"/\" }}\nurl = \"http://127.0.28.1:{}/\"\n",
                service.addr.port(),
                service.addr.port()
            ),
            &[],
        )
        .await;
    broker.until("m", "up").await;

    assert_eq!(dig(&broker, &["+short", DOMAIN, "A"]).await.trim(), "127.0.28.1");
    assert_eq!(dig(&broker, &["+short", "+tcp", DOMAIN, "A"]).await.trim(), "127.0.28.1");
    assert_eq!(dig(&broker, &["+short", "m.play.example.com", "A"]).await.trim(), "127.0.28.1");
    let https = dig(&broker, &["+short", DOMAIN, "HTTPS"]).await;
    assert!(https.contains("alpn=\"h2\"") && https.contains("127.0.28.1"), "{https}");
    let srv = dig(&broker, &["+short", "_http._tcp.play.example.com", "SRV"]).await;
    assert!(srv.contains(&service.addr.port().to_string()) && srv.contains("m.play.example.com."), "{srv}");
    assert!(dig(&broker, &["+short", DOMAIN, "SOA"]).await.contains("hostmaster"), "SOA");
    assert!(!dig(&broker, &["+short", DOMAIN, "NS"]).await.is_empty(), "NS");
    // Too large for a datagram: truncated, and dig asks again over TCP by itself.
    assert_eq!(dig(&broker, &["+short", "big.play.example.com", "TXT"]).await.lines().count(), 8);
    let truncated = dig(&broker, &["+ignore", "big.play.example.com", "TXT"]).await;
    assert!(truncated.contains(" tc"), "{truncated}");

    let url = broker.url();
    assert_eq!(run("curl", &["-sSL", &format!("{url}/go/{DOMAIN}/")]).await, "one");
    let head = run("curl", &["-sSI", "-H", "Host: www.example.org", &format!("{url}/a?b=c")]).await;
    assert!(
        head.starts_with("HTTP/1.1 307") && head.contains("/a?b=c") && head.contains("rel=duplicate"),
        "{head}"
    );
    let openapi = run("curl", &["-sS", &format!("{url}/openapi.json")]).await;
    let openapi: serde_json::Value = serde_json::from_str(&openapi).expect("JSON");
    for path in ["/v1/resolve/{domain}", "/v1/explain", "/v1/fleet", "/v1/events"] {
        assert!(openapi["paths"].get(path).is_some(), "{path} is not described");
    }
    for path in ["/healthz", "/readyz", "/v1/fleet"] {
        run("curl", &["-sSf", &format!("{url}{path}")]).await;
    }

    let metrics = run("curl", &["-sSf", &format!("{url}/metrics")]).await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool; `cargo xtask test` installs it");
    promtool.stdin.take().expect("piped").write_all(metrics.as_bytes()).await.expect("write");
    let said = promtool.wait_with_output().await.expect("promtool ends");
    assert!(said.status.success() && said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// Beyond loopback the API wants TLS, and a token or a person's key.
#[tokio::test]
async fn beyond_loopback_the_api_wants_tls_and_a_token() {
    let dir = directory();
    let plain = "[[http.tokens]]\nname = \"ops\"\nsha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"";
    let config = nearmost_tests::process::broker_config(dir.path(), plain);
    let public = config.replace("[http]\nlisten = [\"127.0.0.1:0\"]", "[http]\nlisten = [\"0.0.0.0:0\"]");
    std::fs::write(dir.path().join("broker.toml"), &public).expect("write");
    let said = Broker::refused(dir.path()).await;
    assert!(said.contains("tls"), "{said}");

    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=broker.test",
            "-addext",
            "subjectAltName=DNS:broker.test",
            "-keyout",
            key.to_str().expect("UTF-8"),
            "-out",
            cert.to_str().expect("UTF-8"),
        ],
    )
    .await;
    let with_tls = public.replace("[http]\n", &format!("[http]\ntls_cert = {cert:?}\ntls_key = {key:?}\n"));
    std::fs::write(dir.path().join("broker.toml"), with_tls).expect("write");
    let broker = Broker::restart(dir.path()).await;
    broker.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n"), &[]).await;
    let port = broker.at.http[0].port();
    let resolve = format!("broker.test:{port}:127.0.0.1");
    let get = |path: &str, header: &str| {
        let url = format!("https://broker.test:{port}{path}");
        let args = [
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--resolve",
            &resolve,
            "--cacert",
            cert.to_str().expect("UTF-8"),
            "-H",
            header,
            &url,
        ]
        .map(String::from);
        async move { run("curl", &args.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    assert_eq!(get("/v1/fleet", "X: y").await, "401");
    assert_eq!(get("/metrics", "X: y").await, "401");
    assert_eq!(get("/v1/fleet", "Authorization: Bearer wrong").await, "401");
    // The digest above is that of "secret".
    assert_eq!(get("/v1/fleet", "Authorization: Bearer secret").await, "200");
    assert_eq!(get(&format!("/v1/resolve/{DOMAIN}"), "X: y").await, "200");
    assert_eq!(get("/healthz", "X: y").await, "200");
}
