use super::*;
use nearmost_client::api::{
    EvidenceView, FleetMirror, FleetResponse, PlaceView, SaidView, TrafficResponse, VerdictView,
};

fn verdict(family: &str, state: &str, reason: &str) -> VerdictView {
    VerdictView {
        family: family.into(),
        address: Some("203.0.113.1".into()),
        state: state.into(),
        eligible: state == "up",
        reason: reason.into(),
        vantage: "broker".into(),
        since_unix_ms: 0,
        age_ms: 180_000,
        stale: false,
        evidence: None,
    }
}

fn mirror(domain: &str, name: &str, verdicts: Vec<VerdictView>) -> FleetMirror {
    let place = PlaceView {
        latitude: None,
        longitude: None,
        country: None,
        country_name: None,
        asn: None,
        source: "given".into(),
    };
    FleetMirror {
        domain: domain.into(),
        mirror: name.into(),
        node: None,
        health: "agent".into(),
        port: 443,
        weight: 100,
        place,
        verdicts,
        cpu: 0.0,
        memory: 0.0,
        connections: 0,
        capacity: 0,
    }
}

fn told(mirrors: Vec<FleetMirror>) -> Told {
    let mut domains: Vec<String> = mirrors.iter().map(|m| m.domain.clone()).collect();
    domains.dedup();
    let fleet = FleetResponse {
        broker: "nb1abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrstuv".into(),
        version: 12,
        domains,
        nodes: Vec::new(),
        mirrors,
        doubts_itself: false,
    };
    Told {
        fleet,
        not_ready: None,
        peers: None,
        traffic: None,
        checkup: None,
        events: Vec::new(),
        unanswered: Vec::new(),
        now_unix_ms: 0,
    }
}

fn render_at(told: &Told, columns: usize, rows: usize) -> String {
    render(told, &Trouble::of(&told.fleet), columns, rows)
}

fn failed_with_evidence() -> VerdictView {
    let evidence = EvidenceView {
        agent_heard_ms_ago: Some(180_000),
        broker: Some(SaidView { reached: false, ms_ago: 1000 }),
        witnesses: Vec::new(),
        peers: Vec::new(),
        complaints: 2,
        penalty: 0.0,
    };
    VerdictView { evidence: Some(evidence), ..verdict("v4", "down", "silent_and_unreachable") }
}

#[test]
fn what_is_down_why_who_is_affected_and_what_was_done_is_on_the_screen() {
    let up = || vec![verdict("v4", "up", "proven")];
    let d = "play.example.com";
    let mut told = told(vec![
        mirror(d, "lon", vec![failed_with_evidence()]),
        mirror(d, "nyc", up()),
        mirror(d, "fra", up()),
    ]);
    let carried = |name: &str, users, ms| MirrorTrafficView {
        domain: d.into(),
        mirror: name.into(),
        users,
        rtt_p50_ms: Some(ms),
        rtt_p95_ms: None,
    };
    told.traffic = Some(TrafficResponse {
        at_unix_ms: 0,
        window_s: 60,
        flows: Vec::new(),
        left_out: 0,
        brokers: Vec::new(),
        mirrors: vec![carried("nyc", 20.0, 80.2), carried("fra", 100.0, 12.0), carried("lon", 3.0, 5.0)],
    });
    told.events = vec![EventView {
        number: 1,
        at_unix_ms: 43_200_000,
        domain: d.into(),
        mirror: "lon".into(),
        family: "v4".into(),
        from: "up".into(),
        to: "down".into(),
        reason: "silent_and_unreachable".into(),
        vantage: "broker".into(),
        evidence: String::new(),
    }];
    let shown = render_at(&told, 80, 24);
    for part in [
        "broker nb1abcdefghijklmnopq…, registry version 12: 1 domains, 0 nodes, 3 mirrors\n",
        "    users go to fra (100, 12 ms), nyc (20, 80 ms); 3 still on it\n",
        "\nplay.example.com/lon v4    down       no    3m   its agent is silent, and probe…\n",
        "    its agent is silent, and probes fail; seen by broker: agent heard 3m ago,\n    broker failed 1s ago, \
         clients of 2 networks complain\n",
        "  12:00:00Z  play.example.com/lon v4  up → down  its agent is silent, and probe…\n",
        "\n2 of 3 mirrors are well\n",
    ] {
        assert!(shown.contains(part), "{shown}\nexpected: {part}");
    }
    let mut own = told;
    own.not_ready = Some("the geo databases are not compiled yet".into());
    assert!(render_at(&own, 80, 24).lines().nth(1).unwrap().contains("not ready: the geo"));
}

#[test]
fn a_screen_is_never_exceeded() {
    let failed = || vec![failed_with_evidence()];
    let mirrors: Vec<FleetMirror> = (0..100)
        .map(|i| {
            mirror(
                &format!("d{}.a-long-name-of-a-domain.example.com", i % 40),
                &format!("m{i}\u{1b}[2J"),
                failed(),
            )
        })
        .collect();
    let mut told = told(mirrors);
    told.fleet.doubts_itself = true;
    for (columns, rows) in [(80, 24), (120, 50), (40, 12)] {
        let shown = render_at(&told, columns, rows);
        let widest = shown.lines().map(|l| l.chars().count()).max().unwrap();
        assert!(widest <= columns && shown.lines().count() < rows.max(14), "{columns}x{rows}:\n{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert!(
            shown.contains("more; --all shows all\n") && shown.ends_with("0 of 100 mirrors are well\n"),
            "{shown}"
        );
    }
}

#[test]
fn every_state_fits_every_width() {
    for state in ["up", "down", "suspect", "unknown", "unattended", "warming", "draining", "añejo"] {
        for stale in [false, true] {
            let verdict = VerdictView { stale, ..verdict("v4", state, "probe_failed") };
            let told = told(vec![mirror("play.example.com", "lon", vec![verdict])]);
            for columns in 20..=80 {
                let shown = render_at(&told, columns, 24);
                let widest = shown.lines().map(|l| l.chars().count()).max().unwrap();
                assert!(widest <= columns && shown.lines().count() < 24, "{columns}:\n{shown}");
            }
        }
    }
}

#[test]
fn check_fails_for_what_nobody_ordered() {
    let wrong = |verdicts| {
        Trouble::of(
            &told(vec![
                mirror("a.test", "x", verdicts),
                mirror("a.test", "y", vec![verdict("v4", "up", "proven")]),
            ])
            .fleet,
        )
        .is_wrong()
    };
    assert!(wrong(vec![verdict("v4", "down", "probe_failed")]));
    assert!(wrong(vec![]));
    assert!(!wrong(vec![verdict("v4", "up", "proven")]));
    assert!(!wrong(vec![verdict("v4", "draining", "drained_by_order")]));
    assert!(!wrong(vec![verdict("v4", "down", "forced")]));
}

#[test]
fn a_domain_without_a_mirror_a_failing_finding_and_silence_are_told() {
    let mut told = told(vec![mirror("a.test", "x", vec![verdict("v4", "up", "proven")])]);
    assert!(!told.is_wrong(&Trouble::of(&told.fleet)));
    // One that is being set up is told, and is no fault.
    told.fleet.domains.push("b.test".into());
    assert!(!told.is_wrong(&Trouble::of(&told.fleet)));
    assert!(render_at(&told, 80, 24).contains("\nb.test: it has no mirror\n"));
    told.fleet.domains.pop();
    let finding = nearmost_client::api::FindingView {
        subject: "disk".into(),
        level: "fail".into(),
        message: "full".into(),
        fix: "make room".into(),
    };
    told.checkup = Some(nearmost_client::api::CheckupResponse {
        broker: "nb1".into(),
        version: String::new(),
        at_unix_ms: 0,
        findings: vec![finding],
        listeners: Vec::new(),
        nameservers: Vec::new(),
        zones: Vec::new(),
        domains: Vec::new(),
    });
    told.unanswered = vec!["peers", "events"];
    assert!(told.is_wrong(&Trouble::of(&told.fleet)));
    let shown = render_at(&told, 80, 24);
    assert!(shown.contains("\nthis broker did not answer in time about: peers, events\n"), "{shown}");
}
