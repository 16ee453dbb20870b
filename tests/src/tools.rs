//! Programs that others wrote, as tests run them.

use crate::{dns, eventually};
use hickory_proto::rr::RecordType;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::{Child, Command};

/// The bit of "recursion desired" in a query's third byte.
const RD: u8 = 1;

/// A program that Debian puts where only root's path leads.
pub fn installed(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{program} is not there; `cargo xtask test` installs it"))
}

/// A copy: Debian's AppArmor profile lets the program at its own place read no configuration of ours.
pub fn copied(program: &str, dir: &Path) -> PathBuf {
    let copy = dir.join(program);
    // Not by this process: what another test starts meanwhile would hold the copy open for writing, and
    // nobody could run it.
    let made = std::process::Command::new("cp").arg(installed(program)).arg(&copy).status();
    assert!(made.expect("run cp").success(), "copy {program}");
    copy
}

/// A port that is free for UDP and TCP: resolvers cannot say which they were given for 0.
pub fn free_port(ip: &str) -> SocketAddr {
    let free = || {
        let udp = std::net::UdpSocket::bind((ip, 0)).expect("bind");
        let at = udp.local_addr().expect("bound");
        std::net::TcpListener::bind(at).ok().map(|_| at)
    };
    // Of many tests at once, each takes what it was given a moment later.
    (0..1000).find_map(|_| free()).expect("a free port")
}

/// What a program says on both its outputs, standard output first.
pub async fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(crate::PATIENCE, output).await.expect("it ends");
    let output = output.expect("a program; `cargo xtask test` installs it");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A new certificate for a name, and its key, in a directory.
pub async fn certify(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", &format!("/CN={name}")])
        .args(["-addext", &format!("subjectAltName=DNS:{name}")])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert);
    let told = said(&mut command).await;
    assert!(cert.is_file() && key.is_file(), "{told}");
    (cert, key)
}

/// Trust anchors as BIND's programs write them, of a DS `tag algorithm digest-type digest` each.
pub fn bind_anchors(domain: &str, anchors: &[String]) -> String {
    let line = |ds: &String| {
        let mut words = ds.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (tag, algorithm, kind, digest) = (word(), word(), word(), word());
        format!("\"{domain}.\" static-ds {tag} {algorithm} {kind} \"{digest}\";\n")
    };
    format!("trust-anchors {{\n{}}};\n", anchors.iter().map(line).collect::<String>())
}

/// What a resolver asks, and believes.
pub struct Upstream<'a> {
    /// The broker.
    pub server: SocketAddr,
    /// Zones that it serves. The first is asked for to see whether the resolver is ready.
    pub zones: &'a [&'a str],
    /// Zones that another server has.
    pub elsewhere: &'a [(&'a str, SocketAddr)],
    /// A signed zone, and its DS. Nothing is validated without.
    pub anchors: Option<(&'a str, &'a [String])>,
    /// Whether client subnets are passed on, where the resolver can do that.
    pub subnets: bool,
    /// More lines of its configuration.
    pub more: &'a str,
}

impl Upstream<'_> {
    /// Every zone, and who serves it.
    fn served(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        let own = self.zones.iter().map(|zone| (*zone, self.server));
        own.chain(self.elsewhere.iter().copied())
    }
}

/// A resolver as a process that ends with the test.
pub struct Resolver {
    /// Where it listens.
    pub at: SocketAddr,
    _child: Child,
}

// Each asks from a loopback address only: from there the system lets nothing out, whatever a resolver would
// ask the root for.
impl Resolver {
    /// Unbound.
    pub async fn unbound(dir: &Path, upstream: &Upstream<'_>) -> Resolver {
        let at = free_port("127.0.31.1");
        let (modules, subnets) = match upstream.subnets {
            true => (
                "subnetcache validator iterator",
                "send-client-subnet: 127.0.0.1\nclient-subnet-always-forward: yes\n\
                 max-client-subnet-ipv4: 24\nmax-client-subnet-ipv6: 56\n",
            ),
            false => ("validator iterator", ""),
        };
        let anchors = upstream.anchors.into_iter().flat_map(|(zone, all)| {
            all.iter().map(move |ds| format!("trust-anchor: \"{zone}. IN DS {ds}\"\n"))
        });
        let stub = |(zone, server): (&str, SocketAddr)| {
            format!("stub-zone:\nname: {zone:?}\nstub-addr: {}@{}\n", server.ip(), server.port())
        };
        let config = format!(
            "server:\n\
             interface: {}\nport: {}\naccess-control: 127.0.0.0/8 allow\n\
             do-daemonize: no\nusername: \"\"\nchroot: \"\"\npidfile: \"\"\ndirectory: {dir:?}\n\
             use-syslog: no\nlogfile: \"\"\nnum-threads: 1\nval-log-level: 2\n\
             do-not-query-localhost: no\noutgoing-interface: 127.0.0.1\nmodule-config: {modules:?}\n{subnets}{}{}\n\
             {}remote-control:\ncontrol-enable: no\n",
            at.ip(),
            at.port(),
            anchors.collect::<String>(),
            upstream.more,
            upstream.served().map(stub).collect::<String>(),
        );
        std::fs::write(dir.join("unbound.conf"), config).expect("write unbound.conf");
        let mut command = Command::new(copied("unbound", dir));
        command.arg("-d").arg("-c").arg(dir.join("unbound.conf"));
        Resolver::start(command, dir, at, upstream.zones[0]).await
    }

    /// BIND. It has no client subnets.
    pub async fn bind(dir: &Path, upstream: &Upstream<'_>) -> Resolver {
        // It listens on what interfaces have.
        let at = free_port("127.0.0.1");
        let zone = |(zone, server): (&str, SocketAddr)| {
            let to = format!("forwarders {{ {} port {}; }};", server.ip(), server.port());
            format!("zone {zone:?} {{ type forward; forward only; {to} }};\n")
        };
        let config = format!(
            "options {{\n\
             directory {dir:?};\npid-file none;\nsession-keyfile none;\n\
             listen-on port {} {{ {}; }};\nlisten-on-v6 {{ none; }};\n\
             query-source address 127.0.0.1;\nquery-source-v6 address ::1;\n\
             recursion yes;\nallow-query {{ any; }};\ndnssec-validation yes;\n{}\n\
             }};\ncontrols {{}};\n{}{}",
            at.port(),
            at.ip(),
            upstream.more,
            upstream.anchors.map_or(String::new(), |(zone, all)| bind_anchors(zone, all)),
            upstream.served().map(zone).collect::<String>(),
        );
        std::fs::write(dir.join("named.conf"), config).expect("write named.conf");
        let mut command = Command::new(copied("named", dir));
        command.arg("-g").arg("-n").arg("1").arg("-c").arg(dir.join("named.conf"));
        Resolver::start(command, dir, at, upstream.zones[0]).await
    }

    /// The PowerDNS Recursor.
    pub async fn recursor(dir: &Path, upstream: &Upstream<'_>) -> Resolver {
        let at = free_port("127.0.31.2");
        let zones: Vec<String> = upstream.served().map(|(zone, server)| format!("{zone}={server}")).collect();
        let subnets = match upstream.subnets {
            true => format!(
                "edns-subnet-allow-list={}\nuse-incoming-edns-subnet=yes\n\
                 ecs-ipv4-bits=24\necs-ipv6-bits=56\necs-cache-limit-ttl=1\n",
                upstream.zones.join(",")
            ),
            false => String::new(),
        };
        let anchors = upstream
            .anchors
            .into_iter()
            .flat_map(|(zone, all)| all.iter().map(move |ds| format!("addTA({zone:?}, {ds:?})\n")));
        // The root's key would have it look for proofs there.
        let anchors = std::iter::once("clearTA()\n".to_owned()).chain(anchors);
        std::fs::write(dir.join("recursor.lua"), anchors.collect::<String>()).expect("write recursor.lua");
        let config = format!(
            "local-address={}\nlocal-port={}\nallow-from=127.0.0.0/8\n\
             query-local-address=127.0.0.1\nhint-file=no\n\
             socket-dir={dir}\ndaemon=no\nthreads=1\ndnssec={}\nsecurity-poll-suffix=\n\
             lua-config-file={dir}/recursor.lua\ndont-query=\nforward-zones={}\n{subnets}{}\n",
            at.ip(),
            at.port(),
            if upstream.anchors.is_some() { "validate" } else { "off" },
            zones.join(","),
            upstream.more,
            dir = dir.display(),
        );
        std::fs::write(dir.join("recursor.conf"), config).expect("write recursor.conf");
        let mut command = Command::new(installed("pdns_recursor"));
        command.arg(format!("--config-dir={}", dir.display()));
        Resolver::start(command, dir, at, upstream.zones[0]).await
    }

    /// Starts it and waits until it answers for the broker's zone.
    async fn start(mut command: Command, dir: &Path, at: SocketAddr, zone: &str) -> Resolver {
        let log = std::fs::File::create(dir.join("resolver.log")).expect("log file");
        let output = log.try_clone().expect("log file");
        let child = command.stdin(Stdio::null()).stdout(output).stderr(log).kill_on_drop(true).spawn();
        let resolver = Resolver { at, _child: child.expect("start the resolver") };
        let ready = || async {
            let mut query = dns::query(zone, RecordType::SOA, None);
            query[2] |= RD;
            let answers = dns::exchange(at, &query).await.map_or(0, |reply| reply.answers.len());
            (answers, std::fs::read_to_string(dir.join("resolver.log")).unwrap_or_default())
        };
        eventually("the resolver answers", ready, |(answers, _)| *answers > 0).await;
        resolver
    }
}
