//! `nearmost doctor`: looks for what is wrong, and says how to fix each.
//!
//! ```text
//! way      which broker, does it answer, whose clock is wrong      (from here)
//! checkup  what the broker finds when it examines itself           (GET /v1/checkup)
//! answers  do its DNS and QUIC ports answer                         (real packets from here)
//! delegation  parent ─► NS ─► glue ─► SOA on each, DS               (real queries from here)
//! ```
//! Each step gives findings: what was looked at, `ok`, `warn` or `fail`, and how to fix it. Without a
//! broker what remains is why none was reached, and what its configuration says (`nearmost-broker check-config`).

mod answers;
mod ask;
mod delegation;
mod quic;
mod stopped;
mod way;

use crate::args::{DoctorArgs, Global};
use crate::broker::Context;
use crate::colour::{Tone, paint};
use crate::failure::Kind;
use crate::output::{emit_json, emit_painted, unless_gone};
use crate::progress::Progress;
use nearmost_client::api::{CheckupResponse, FindingView};
use nearmost_client::text::printable;
use serde_json::json;
use std::net::{IpAddr, SocketAddr};

/// Domains looked at unless they are named: each costs some ten queries.
const DOMAINS: usize = 20;

/// All that was found.
#[derive(Default)]
pub struct Findings(Vec<FindingView>);

impl Findings {
    /// As it should be.
    pub fn ok(&mut self, subject: &str, message: impl Into<String>) {
        self.add(subject, "ok", message.into(), String::new());
    }

    /// To be looked at.
    pub fn warn(&mut self, subject: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.add(subject, "warn", message.into(), fix.into());
    }

    /// Wrong.
    pub fn fail(&mut self, subject: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.add(subject, "fail", message.into(), fix.into());
    }

    fn add(&mut self, subject: &str, level: &str, message: String, fix: String) {
        self.0.push(FindingView { subject: subject.into(), level: level.into(), message, fix });
    }

    /// A level that only a newer broker knows is to be looked at.
    fn is(finding: &FindingView, level: &str) -> bool {
        match finding.level.as_str() {
            known @ ("ok" | "warn" | "fail") => known == level,
            _ => level == "warn",
        }
    }

    fn count(&self, level: &str) -> usize {
        self.0.iter().filter(|f| Findings::is(f, level)).count()
    }

    /// The worst finding.
    fn worst(&self) -> Option<Kind> {
        match (self.count("fail"), self.count("warn")) {
            (0, 0) => None,
            (0, _) => Some(Kind::Warned),
            _ => Some(Kind::Wrong),
        }
    }

    /// The worst first, each with its remedy.
    fn render(&self) -> String {
        let mut out = String::new();
        for (level, shown, tone) in
            [("fail", "FAIL", Tone::Bad), ("warn", "WARN", Tone::Doubtful), ("ok", "ok", Tone::Good)]
        {
            for finding in self.0.iter().filter(|f| Findings::is(f, level)) {
                let (subject, message) = (printable(&finding.subject), printable(&finding.message));
                let pad = " ".repeat(6 - shown.len());
                out.push_str(&format!("{}{pad}{subject}: {message}\n", paint(tone, shown)));
                if !finding.fix.is_empty() {
                    out.push_str(&format!("      fix: {}\n", printable(&finding.fix)));
                }
            }
        }
        let (fail, warn, ok) = (self.count("fail"), self.count("warn"), self.count("ok"));
        out.push_str(&format!("{fail} wrong, {warn} to look at, {ok} well\n"));
        out
    }
}

/// An address with or without a port; 53 without.
pub fn at(text: &str) -> Result<SocketAddr, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let ip: Result<IpAddr, _> = text.trim_matches(['[', ']']).parse();
    ip.map(|ip| SocketAddr::new(ip, 53))
        .map_err(|_| format!("{text:?} is no IP address, with or without a port"))
}

/// Looks, prints, and ends by the worst finding.
pub async fn run(global: &Global, args: &DoctorArgs) -> anyhow::Result<Option<Kind>> {
    let mut findings = Findings::default();
    let mut progress = Progress::new(global.json, "asking the broker", 4);
    match Context::new(global) {
        Ok(context) => progress_through(&context, args, &mut findings, &mut progress).await,
        Err(e) => {
            way::none(global, &e, &mut findings);
            if global.broker.is_none() {
                progress.step("looking at its configuration");
                progress.during(stopped::look(&args.config, &mut findings)).await;
            }
        }
    }
    drop(progress);
    unless_gone(match global.json {
        true => emit_json(&json!({
            "findings": findings.0,
            "fail": findings.count("fail"),
            "warn": findings.count("warn"),
            "ok": findings.count("ok"),
        })),
        false => emit_painted(&findings.render()),
    })?;
    Ok(findings.worst())
}

async fn progress_through(
    context: &Context,
    args: &DoctorArgs,
    findings: &mut Findings,
    progress: &mut Progress,
) {
    let reached = progress.during(way::reach(context, findings)).await;
    if !reached {
        if context.client.endpoint().is_unix() {
            progress.step("looking at its configuration");
            progress.during(stopped::look(&args.config, findings)).await;
        }
        return;
    }
    let Some(checkup) = progress.during(examine(context, findings)).await else { return };
    let domains = match args.domain.as_slice() {
        [] => checkup.domains.iter().take(DOMAINS).cloned().collect(),
        named => named.iter().map(|d| d.trim_end_matches('.').to_ascii_lowercase()).collect::<Vec<_>>(),
    };
    if args.domain.is_empty() && checkup.domains.len() > DOMAINS {
        let fix = "name others with --domain";
        let all = checkup.domains.len();
        findings.warn("domains", format!("only the first {DOMAINS} of {all} domains were looked at"), fix);
    }
    progress.step("asking its DNS ports");
    let host = progress.during(answers::Host::of(context, findings)).await;
    let at = answers::addresses(&host, &checkup, &args.address);
    progress.during(answers::look(&checkup, &at, &domains, findings)).await;
    progress.step("asking its QUIC ports");
    progress.during(quic::look(&host, &checkup, findings)).await;
    if !args.offline {
        progress.step("asking the parents of its domains");
        let world = delegation::World::new(args, &checkup, at);
        progress.during(delegation::look(context, world, &domains, findings)).await;
    }
}

/// What the broker finds itself.
async fn examine(context: &Context, findings: &mut Findings) -> Option<CheckupResponse> {
    match context.client.checkup().await {
        Ok(Some(checkup)) => {
            findings.0.extend(checkup.findings.iter().cloned());
            Some(checkup)
        }
        Ok(None) => {
            let fix = "update the broker; meanwhile look at its /metrics and its log";
            findings.warn("checkup", "the broker is older than this command and cannot examine itself", fix);
            None
        }
        Err(e) => {
            let e = anyhow::Error::from(e);
            let fix = crate::failure::hint(&e).unwrap_or_else(|| "the broker's log says more".into());
            let message = crate::failure::told(&e);
            match crate::failure::kind(&e) {
                // It is not the broker that is wrong.
                Kind::Unauthorised => {
                    findings.warn(
                        "checkup",
                        format!("what it finds itself is not told to you: {message}"),
                        fix,
                    );
                }
                _ => findings.fail("checkup", message, fix),
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_first_and_decides() {
        let mut findings = Findings::default();
        findings.ok("disk", "42 GiB free");
        assert_eq!(findings.worst(), None);
        findings.warn("geo", "old", "get a new one");
        assert_eq!(findings.worst(), Some(Kind::Warned));
        findings.fail("clock", "wrong\u{1b}", "set it");
        assert_eq!(findings.worst(), Some(Kind::Wrong));
        assert_eq!(
            findings.render(),
            "FAIL  clock: wrong\\u{1b}\n      fix: set it\nWARN  geo: old\n      fix: get a new one\nok    disk: 42 GiB \
             free\n1 wrong, 1 to look at, 1 well\n"
        );
    }

    #[test]
    fn a_level_of_a_newer_broker_is_to_be_looked_at() {
        let mut findings = Findings::default();
        findings.add("disk", "dire", "x".into(), String::new());
        assert_eq!((findings.worst(), findings.count("ok")), (Some(Kind::Warned), 0));
        assert!(findings.render().starts_with("WARN  disk: x\n"), "{}", findings.render());
    }

    #[test]
    fn addresses_have_a_port_or_that_of_dns() {
        assert_eq!(at("192.0.2.1").unwrap().to_string(), "192.0.2.1:53");
        assert_eq!(at("[2001:db8::1]:5300").unwrap().to_string(), "[2001:db8::1]:5300");
        assert_eq!(at("2001:db8::1").unwrap().to_string(), "[2001:db8::1]:53");
        assert!(at("ns1").unwrap_err().contains("\"ns1\""));
    }
}
