use super::{Client, ClientConfig, Event, Input, MoveReason, Output, Phase};
use crate::health::Family;
use crate::session::list::{Change, FailureDomain, ListVersion, Listed, MirrorList, Standing};
use crate::session::{Ack, Duplicate, MirrorKey, Mode, Role, SessionId};
use crate::time::{MonoTime, Now, UnixMillis};
use std::net::SocketAddrV4;
use std::time::Duration;

pub(super) const A: MirrorKey = MirrorKey(1);
pub(super) const B: MirrorKey = MirrorKey(2);
pub(super) const C: MirrorKey = MirrorKey(3);
/// Of no list.
pub(super) const X: MirrorKey = MirrorKey(99);

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn at(mono: MonoTime) -> Now {
    Now { mono, unix: UnixMillis(1_800_000_000_000 + mono.0 / 1000) }
}

/// A at 10 ms, B at 40, C at 60, each in a region of its own; B by far the likeliest standby.
pub(super) fn listed(key: u64, predicted: u64) -> Listed {
    Listed {
        key: MirrorKey(key),
        v4: Some(SocketAddrV4::new([192, 0, 2, key as u8].into(), 7850)),
        v6: None,
        predicted: ms(predicted),
        weight: if key == 2 { 1e9 } else { 1.0 },
        tier: 0,
        domain: FailureDomain { site: key, asn: key as u32, region: key as u32 },
        standing: Standing::Eligible,
    }
}

pub(super) fn list(number: u64, mirrors: Vec<Listed>) -> MirrorList {
    MirrorList {
        ends: None,
        version: ListVersion { source: 1, number },
        issued: UnixMillis(1_800_000_000_000 + number),
        mirrors,
    }
}

fn three() -> Vec<Listed> {
    vec![listed(1, 10), listed(2, 40), listed(3, 60)]
}

fn change(standing: Standing, key: MirrorKey) -> Input {
    let put = three().into_iter().filter(|m| m.key == key).map(|m| Listed { standing, ..m }).collect();
    let to = ListVersion { source: 1, number: 2 };
    Input::Changed(Change {
        from: 1,
        to,
        issued: UnixMillis(1_800_000_000_002),
        ends: None,
        put,
        removed: vec![],
    })
}

struct Bench {
    client: Client,
    now: MonoTime,
}

impl Bench {
    fn new(mode: Mode) -> Bench {
        let client = Client::new(ClientConfig::default(), SessionId(7), mode, 2, 1);
        let mut bench = Bench { client, now: MonoTime::from_millis(1000) };
        bench.give(Input::Tick);
        bench
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        self.client.handle(input, at(self.now));
        std::iter::from_fn(|| self.client.poll_output()).collect()
    }

    /// Lets time pass to the next deadline.
    fn wait(&mut self) -> Vec<Output> {
        self.now = self.client.next_deadline().unwrap();
        self.give(Input::Tick)
    }

    fn answer(&mut self, mirror: MirrorKey, rtt: u64) -> Vec<Output> {
        self.give(Input::ProbeAnswered { mirror, family: Family::V4, rtt: ms(rtt) })
    }

    /// A client in the state of a code.
    fn in_state(code: &str) -> Bench {
        let mut bench = Bench::new(Mode::Datagram(Duplicate::WhileDegraded));
        if code == "rs" {
            return bench;
        }
        bench.give(Input::ListArrived(list(1, three())));
        match code {
            "pr" => {}
            "as" => bench.fail_rounds(),
            "cl" => drop(bench.give(Input::Close)),
            _ => bench.attach(code),
        }
        bench
    }

    fn fail_rounds(&mut self) {
        while self.client.phase() != Phase::Resolving {
            for mirror in [A, B, C] {
                self.give(Input::ProbeFailed { mirror, family: Family::V4 });
            }
            self.wait();
        }
    }

    fn attach(&mut self, code: &str) {
        self.answer(A, 10);
        if code == "ra" {
            return;
        }
        self.give(Input::Accepted(A));
        if code == "dr" {
            self.give(Input::Drains { mirror: A, go_to: None });
        }
        if code == "a0" || code == "dr" {
            return;
        }
        self.give(Input::Accepted(B));
        match code {
            "at" => {}
            "de" => {
                while self.client.phase() != Phase::Degraded {
                    self.wait();
                }
            }
            "mo" => {
                let now = self.now;
                self.client.intend(MoveReason::Better, Some(C), false, now);
                self.give(Input::Tick);
            }
            "le" => drop(self.give(Input::Drains { mirror: A, go_to: None })),
            "re" => {
                self.give(Input::Drains { mirror: A, go_to: None });
                self.give(proof(B));
            }
            other => panic!("no state {other}"),
        }
    }
}

/// A packet from a mirror that has the second packet of this client, which carries its promotion.
fn proof(mirror: MirrorKey) -> Input {
    Input::Heard { mirror, seq: 1, ack: Some(Ack { seq: 1, held: Duration::ZERO }) }
}

fn phase_code(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolving => "rs",
        Phase::Probing => "pr",
        Phase::Racing => "ra",
        Phase::Attached => "at",
        Phase::Degraded => "de",
        Phase::Moving => "mo",
        Phase::Draining => "dr",
        Phase::Closed => "cl",
    }
}

/// Outputs in short: R resolve, P probes, + attach, ^ promote, v retire, - detach, = duplicate over,
/// ! report, and events; beacons are left out.
fn short(outputs: &[Output]) -> String {
    let mut text = String::new();
    for output in outputs {
        let part = match output {
            Output::Resolve { .. } => "R".to_owned(),
            Output::Probe { .. } if text.ends_with('P') => String::new(),
            Output::Probe { .. } => "P".to_owned(),
            Output::Attach { mirror, role: Role::Primary, .. } => format!("+{}", mirror.0),
            Output::Attach { mirror, role: Role::Standby, .. } => format!("+{}s", mirror.0),
            Output::Promote(mirror) => format!("^{}", mirror.0),
            Output::Retire(mirror) => format!("v{}", mirror.0),
            Output::Detach { mirror, .. } => format!("-{}", mirror.0),
            Output::Duplicate(over) => format!("={}", over.map_or(0, |mirror| mirror.0)),
            Output::ReportFailed(mirror) => format!("!{}", mirror.0),
            Output::Beacon { .. } => String::new(),
            Output::Event(Event::Attached(_)) => "a".to_owned(),
            Output::Event(Event::Degraded(_)) => "d".to_owned(),
            Output::Event(Event::Restored(_)) => "r".to_owned(),
            Output::Event(Event::Lost(_)) => "l".to_owned(),
            Output::Event(Event::Moved { .. }) => "m".to_owned(),
        };
        text += &part;
    }
    text
}

fn inputs() -> Vec<(&'static str, Input)> {
    let heard = |mirror| Input::Heard { mirror, seq: 0, ack: Some(Ack { seq: 0, held: Duration::ZERO }) };
    let refused = |mirror, go_to| Input::Refused { mirror, retry_after: ms(2000), go_to };
    let drains = |mirror, go_to| Input::Drains { mirror, go_to };
    vec![
        ("List", Input::ListArrived(list(2, three()))),
        ("NoA", Input::ListArrived(list(2, three().split_off(1)))),
        ("ADra", change(Standing::Draining, A)),
        ("BDow", change(Standing::Down, B)),
        ("BrLo", Input::BrokerLost),
        ("BrBa", Input::BrokerBack),
        ("AAns", Input::ProbeAnswered { mirror: A, family: Family::V4, rtt: ms(10) }),
        ("AMis", Input::ProbeFailed { mirror: A, family: Family::V4 }),
        ("AAcc", Input::Accepted(A)),
        ("BAcc", Input::Accepted(B)),
        ("CAcc", Input::Accepted(C)),
        ("XAcc", Input::Accepted(X)),
        ("ARef", refused(A, Some(C))),
        ("BRef", refused(B, None)),
        ("AFai", Input::Failed(A)),
        ("BFai", Input::Failed(B)),
        ("AHea", heard(A)),
        ("BHea", heard(B)),
        ("BPrv", proof(B)),
        ("ATri", Input::TripwireClosed(A)),
        ("BTri", Input::TripwireClosed(B)),
        ("ATrR", Input::TripwireRefused(A)),
        ("ADrn", drains(A, None)),
        ("ADrC", drains(A, Some(C))),
        ("BDrn", drains(B, None)),
        ("AFin", Input::Finished(A)),
        ("Net", Input::NetworkChanged),
        ("Clos", Input::Close),
        ("Tick", Input::Tick),
    ]
}

/// `a0`: attached, the standby B on its way; `as`: brokers asked after rounds in vain; `mo`: to C;
/// `le`: B was promoted since A drains, and has not answered yet; `re`: it has, and A was told.
const TABLE: &str = "
          rs  pr   ra     a0        at          de            mo        dr        as  cl le        re
    List: prP .    .      .         .           .             .         .         prP .  .         .
    NoA:  prP .    pr-1   dr        .^2+3s      at^2+3s=0     at^2      .         prP .  .         .
    ADra: .   .    pr-1   dr        .^2+3s      at^2+3s=0     at^2      .         prP .  .         .
    BDow: .   .    .      .-2+3s    .-2+3s      .-2+3s=0      .-2       .-2+3s    prP .  dr        dr
    BrLo: .   .    .      .         .           .             .         .         .   .  .         .
    BrBa: .   .R   .R     .R        .R          .R            .R        .R        .R  .  .R        .R
    AAns: .   ra+1 .      .         .           .             .         .         .   .  .         .
    AMis: .   .    .      .         .           .             .         .         .   .  .         .
    AAcc: .   .    ata+2s .         .           .             .         .         .   .  .         .
    BAcc: .   .    .      .         .           .             .         at^2+3s   .   .  .         .
    CAcc: .   .    .      .         .           .             .-2       .         .   .  .         .
    XAcc: .   .    .      .         .           .             .         .         .   .  .         .
    ARef: .   .    .+3    pr-1l+3P  .-1^2+3s    at-1^2+3s=0   at-1^2    pr-1l+3P  .   .  .         .
    BRef: .   .    .      .+3s      .-2+3s      .-2+3s=0      .-2       .+3s      .   .  dr-2^1    pr-2lP
    AFai: .   .    pr     prd-1!1lP .d-1!1^2+3s at-1!1^2+3s=0 atd-1!1^2 prd-1!1lP .   .  .-1       .-1
    BFai: .   .    .      .+3s      .-2!2+3s    .-2!2+3s=0    .-2!2     .+3s      .   .  drd-2!2^1 prd-2!2lP
    AHea: .   .    .      .         .           atr=0         .         .         .   .  .         .
    BHea: .   .    .      .         .           .             .         .         .   .  .         .
    BPrv: .   .    .      .         .           .             .         .         .   .  .mv1      .
    ATri: .   .    .      ded       .d^2+3s     at^2+3s=0     atd^2     ded       .   .  .         .
    BTri: .   .    .      .         .+3s        .+3s          .         .         .   .  ded       ded
    ATrR: .   .    .      .         .           .             .         .         .   .  .         .
    ADrn: .   .    pr-1   dr        .^2+3s      at^2+3s=0     at^2      .         .   .  .         .
    ADrC: .   .    pr-1   dr+3s     dr+3s       .+3s          dr        .+3s      .   .  .         .
    BDrn: .   .    .      .-2+3s    .-2+3s      .-2+3s=0      .-2       .-2+3s    .   .  dr        dr
    AFin: .   .    .      .         .           .             .         .         .   .  .         .
    Net:  .   .P   prP    ded       ded=2       .             ded=2     ded       prP .  ded       ded
    Clos: cl  cl   cl-1   cl-2-1    cl-1-2      cl-1-2        cl-3-1-2  cl-2-1    cl  .  cl-3-2-1  cl-3-2-1
    Tick: .   .    .      .         .           .             .         .         .   .  .         .";

#[test]
fn every_state_and_input() {
    let mut rows = TABLE.lines().map(str::trim).filter(|line| !line.is_empty());
    let states: Vec<_> = rows.next().unwrap_or_default().split_whitespace().collect();
    let mut wrong = Vec::new();
    for (name, input) in inputs() {
        let mut got = vec![format!("{name}:")];
        for state in &states {
            let mut bench = Bench::in_state(state);
            let outputs = short(&bench.give(input.clone()));
            let phase = phase_code(bench.client.phase());
            let before = match *state {
                "a0" | "le" | "re" => "at",
                "as" => "rs",
                other => other,
            };
            let phase = if phase == before { "." } else { phase };
            got.push(if outputs.is_empty() { phase.to_owned() } else { format!("{phase}{outputs}") });
        }
        if !rows.next().unwrap_or_default().split_whitespace().eq(got.iter().map(String::as_str)) {
            wrong.push(got.iter().map(|cell| format!("{cell} ")).collect::<String>());
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
