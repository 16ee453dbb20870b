//! Why a mirror stands where it stands, in sentences.

use super::view::Ranking;
use nearmost_core::geo::{Place, countries};
use nearmost_core::health::{Family, Reason, Vantage, Verdict};
use nearmost_core::ranking::{Basis, Candidate, tie_band_ms};
use nearmost_core::registry::{HealthMode, MirrorIndex};
use nearmost_core::time::UnixMillis;

/// All sentences about one mirror: how far it is, what stands before it, its health, its place in
/// the answers, and what people ordered.
pub(super) fn sentences(ranking: &Ranking<'_>, at: usize) -> Vec<String> {
    let Some(candidate) = ranking.all.get(at) else { return Vec::new() };
    let mut out = vec![predicted(ranking, candidate)];
    let before = at.checked_sub(1).and_then(|b| ranking.all.get(b));
    out.extend(before.and_then(|b| tie(ranking, b, candidate)));
    let families = ranking.families(candidate.mirror);
    if families.is_empty() {
        out.push("no address is known".into());
    }
    for family in families {
        let verdict = ranking.snapshot.live.mirror(candidate.mirror).verdict(family);
        out.push(health(verdict, family, ranking.now));
        out.push(answer(ranking, candidate, family));
    }
    out.extend(orders(ranking, candidate.mirror));
    out
}

/// "19 ms predicted: 760 km from the client in Germany (given) to the mirror in the United Kingdom (…)".
fn predicted(ranking: &Ranking<'_>, candidate: &Candidate) -> String {
    let mirror = ranking.snapshot.registry.mirror(candidate.mirror);
    let rtt = candidate.rtt_ms;
    let client = &ranking.located;
    let Some(km) = candidate.distance_km else {
        let whose = match client.place.position {
            None => "client",
            Some(_) => "mirror",
        };
        return format!("{rtt:.0} ms assumed, the worst there is: the place of the {whose} is not known");
    };
    let places = &ranking.snapshot.map.places;
    format!(
        "{rtt:.0} ms predicted: {km:.0} km from the client in {} ({}) to the mirror in {} ({})",
        place(&client.place),
        places.source_name(client.source),
        place(&mirror.place),
        places.source_name(mirror.place_source),
    )
}

fn place(place: &Place) -> String {
    if let Some(code) = place.country {
        return countries::find(code).map_or_else(|| code.to_string(), |c| c.name.to_string());
    }
    match place.position.map(|p| p.degrees()) {
        Some((lat, lon)) => format!("a place at {lat:.1}, {lon:.1}"),
        None => "an unknown place".into(),
    }
}

/// What put the mirror behind another one that is exactly as near, or may be.
fn tie(ranking: &Ranking<'_>, before: &Candidate, this: &Candidate) -> Option<String> {
    if before.rtt_ms != this.rtt_ms {
        return None;
    }
    let (a, b) =
        (ranking.snapshot.registry.mirror(before.mirror), ranking.snapshot.registry.mirror(this.mirror));
    if ranking.located.place.position.is_none() {
        let cell = ranking.located.cell;
        return Some(format!(
            "after {} for all of {cell}: networks of unknown place are shared out by weight",
            a.name
        ));
    }
    Some(match a.weight == b.weight {
        true => format!("as near as {}, which stands before it by name", a.name),
        false => format!("as near as {}, which has more weight ({} over {})", a.name, a.weight, b.weight),
    })
}

/// "IPv4 down: its agent is silent and … (silent_and_unreachable), seen by the broker 3 s ago".
fn health(verdict: &Verdict, family: Family, now: UnixMillis) -> String {
    let mut text = format!(
        "{} {}: {} ({})",
        family_name(family),
        verdict.state.as_str(),
        reason(verdict.reason),
        verdict.reason.code()
    );
    if let Some(who) = vantage(verdict.vantage) {
        text.push_str(&format!(", {who}"));
    }
    if verdict.since != UnixMillis::default() {
        text.push_str(&format!(" {} ago", span(now.0.saturating_sub(verdict.since.0))));
    }
    if verdict.stale {
        text.push_str("; from before a restart, not confirmed yet");
    }
    text
}

/// Its place in, or absence from, the answer of one family.
fn answer(ranking: &Ranking<'_>, candidate: &Candidate, family: Family) -> String {
    let policy = &ranking.snapshot.registry.domain(ranking.domain).policy;
    let choice = &ranking.choices[family.index()];
    let name = format!("the {} answer", family_name(family));
    let eligible = ranking.snapshot.live.mirror(candidate.mirror).eligible(family);
    let chosen = choice.mirrors.iter().position(|c| c.mirror == candidate.mirror);
    let best = choice.mirrors.first().map_or(candidate.rtt_ms, |c| c.rtt_ms);
    let (behind, band) = (candidate.rtt_ms - best, tie_band_ms(policy, best));
    let unknown = ranking.located.place.position.is_none();
    let cell = ranking.located.cell;
    match (choice.basis, chosen) {
        (Basis::Eligible, Some(_)) if unknown => {
            format!(
                "in {name}: the one eligible mirror that {cell}, whose place is not known, is given by weight"
            )
        }
        (Basis::Eligible, None) if unknown && eligible => {
            format!("not in {name}: {cell}, whose place is not known, is given another mirror by weight")
        }
        (Basis::Eligible, Some(0)) => format!("in {name}: the nearest eligible mirror"),
        (Basis::Eligible, Some(_)) => {
            format!("in {name}: {behind:.1} ms behind the best, within the tie band of {band:.1} ms")
        }
        (Basis::Eligible, None) if !eligible => {
            format!("not in {name}: not eligible, so it gets no new users")
        }
        (Basis::Eligible, None) if behind > band => {
            format!("not in {name}: {behind:.1} ms behind the best, outside the tie band of {band:.1} ms")
        }
        (Basis::Eligible, None) => {
            format!("not in {name}: within the tie band, but an answer holds at most {}", policy.answers)
        }
        (Basis::AllDownLastKnown, Some(_)) => {
            format!("in {name}: no mirror is eligible, and the policy is to answer those that were last")
        }
        (Basis::AllDownAll, Some(_)) => {
            format!("in {name}: no mirror is eligible, and the policy is to answer all")
        }
        (Basis::AllDownLastKnown | Basis::AllDownAll, None) => {
            format!("not in {name}: no mirror is eligible, and the all-down policy takes others")
        }
        (Basis::AllDownFallback, _) => {
            format!("not in {name}: no mirror is eligible, and the policy is to answer fallback addresses")
        }
        (Basis::Empty, _) => format!("not in {name}: nothing can be answered"),
    }
}

fn orders(ranking: &Ranking<'_>, at: MirrorIndex) -> Vec<String> {
    let mirror = ranking.snapshot.registry.mirror(at);
    let mut out = Vec::new();
    if mirror.orders.drained {
        out.push("drained by order: it or its node gets no new users".into());
    }
    if let Some(force) = mirror.orders.force.filter(|f| f.until > ranking.now) {
        let to = if force.up { "up" } else { "down" };
        out.push(format!("forced {to} by a person for another {}", span(force.until.0 - ranking.now.0)));
    }
    if let HealthMode::Manual { up } = mirror.health {
        out.push(format!("its health is set by hand: {}", if up { "up" } else { "down" }));
    }
    let node = mirror.node.and_then(|n| ranking.snapshot.registry.nodes.get(n.0 as usize));
    if let Some(node) = node.filter(|n| n.revoked) {
        out.push(format!("its node {} is revoked", node.name));
    }
    out
}

/// `IPv4` or `IPv6`.
fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn vantage(vantage: Vantage) -> Option<&'static str> {
    match vantage {
        Vantage::None => None,
        Vantage::Agent => Some("said by its agent"),
        Vantage::Broker => Some("seen by the broker"),
        Vantage::AgentAndBroker => Some("seen by its agent and the broker"),
        Vantage::Operator => Some("ordered by a person"),
    }
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::NothingHeard => "nothing was heard of it yet",
        Reason::NoAddress => "its address is not known",
        Reason::AwaitingProbe => "its agent says healthy, an outside probe has not succeeded yet",
        Reason::Proven => "proven to work",
        Reason::MissedBeacons => "beacons of its agent are missing",
        Reason::SessionLost => "its agent's session ended without a goodbye",
        Reason::ServiceFailing => "its agent reports failing checks",
        Reason::ProbeFailed => "the broker's probes fail",
        Reason::SilentAndUnreachable => "its agent is silent and the broker's probes fail",
        Reason::SilentButAnswering => "its agent is silent, the service answers the broker's probes",
        Reason::DrainedByAgent => "its agent drains",
        Reason::DrainedByOrder => "drained by order",
        Reason::AgentLeft => "its agent said goodbye",
        Reason::Forced => "forced",
        Reason::Manual => "set by hand",
        Reason::Revoked => "its node is revoked",
        Reason::Resumed => "known from before a restart",
        Reason::NotReady => "its agent says the service is not ready",
    }
}

/// A span of time for people: `40 ms`, `3 s`, `5 min`, `2 h`, `3 d`.
fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::Fixture;
    use nearmost_core::health::State;
    use nearmost_core::registry::{AllDown, Force};

    fn said(fixture: &Fixture, client: &str, mirror: &str) -> String {
        let snapshot = fixture.snapshot();
        let domain = snapshot.registry.find_domain(crate::api::testing::DOMAIN).unwrap();
        let ranking = Ranking::new(&snapshot, domain, client.parse().unwrap(), fixture.now());
        let at =
            ranking.all.iter().position(|c| *snapshot.registry.mirror(c.mirror).name == *mirror).unwrap();
        sentences(&ranking, at).join("\n")
    }

    #[track_caller]
    fn says(text: &str, part: &str) {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }

    const LONDONER: &str = "198.51.100.1";

    #[test]
    fn nearness_and_health_are_told() {
        let mut fixture = Fixture::five_mirrors();
        let best = said(&fixture, LONDONER, "lon");
        says(
            &best,
            " ms predicted: 0 km from the client in United Kingdom (testdb) to the mirror in United Kingdom (given)",
        );
        says(&best, "IPv4 up: proven to work (proven), seen by its agent and the broker 3 s ago");
        says(&best, "in the IPv4 answer: the nearest eligible mirror");
        let far = said(&fixture, LONDONER, "nyc");
        says(&far, " ms behind the best, outside the tie band of 3.0 ms");
        says(
            &said(&fixture, "192.0.2.200", "lon"),
            " ms assumed, the worst there is: the place of the client is not known",
        );
        fixture.set_state("lon", State::Down);
        says(&said(&fixture, LONDONER, "lon"), "IPv4 down: ");
        says(&said(&fixture, LONDONER, "lon"), "not in the IPv4 answer: not eligible");
        says(&said(&fixture, LONDONER, "nyc"), "in the IPv4 answer: the nearest eligible mirror");
    }

    #[test]
    fn ties_are_told() {
        let mut fixture = Fixture::five_mirrors();
        let london = fixture.place_of("lon");
        fixture.mirror("nyc", |m| (m.place, m.weight) = (london, 50));
        says(&said(&fixture, LONDONER, "nyc"), "as near as lon, which has more weight (100 over 50)");
        says(
            &said(&fixture, LONDONER, "nyc"),
            "in the IPv4 answer: 0.0 ms behind the best, within the tie band of 3.0 ms",
        );
        fixture.mirror("sao", |m| m.place = london);
        says(&said(&fixture, LONDONER, "sao"), "as near as lon, which stands before it by name");
        says(&said(&fixture, LONDONER, "nyc"), "within the tie band, but an answer holds at most 2");
    }

    #[test]
    fn sharing_out_is_told_where_the_place_is_not_known() {
        let fixture = Fixture::five_mirrors();
        let all = ["lon", "nyc", "sao", "sin", "syd"].map(|m| said(&fixture, "192.0.2.200", m));
        let with = |part: &str| all.iter().filter(|text| text.contains(part)).count();
        assert_eq!(with("in the IPv4 answer: the one eligible mirror that 192.0.2.0/24, whose place"), 1);
        assert_eq!(
            with("not in the IPv4 answer: 192.0.2.0/24, whose place is not known, is given another"),
            4
        );
        assert_eq!(with(" for all of 192.0.2.0/24: networks of unknown place are shared out by weight"), 4);
        assert_eq!((with("tie band"), with("nearest"), with("as near as")), (0, 0, 0));
    }

    #[test]
    fn orders_and_all_down_policies_are_told() {
        let mut fixture = Fixture::five_mirrors();
        let until = UnixMillis(fixture.now().0 + 600_000);
        fixture.mirror("lon", |m| m.orders.drained = true);
        fixture.mirror("nyc", |m| m.orders.force = Some(Force { up: false, until }));
        fixture.mirror("sao", |m| m.health = HealthMode::Manual { up: true });
        for mirror in ["lon", "nyc", "sao", "sin", "syd"] {
            fixture.set_state(mirror, State::Down);
        }
        fixture.policy(|p| p.all_down = AllDown::All);
        says(&said(&fixture, LONDONER, "lon"), "drained by order: ");
        says(&said(&fixture, LONDONER, "lon"), "no mirror is eligible, and the policy is to answer all");
        says(&said(&fixture, LONDONER, "nyc"), "forced down by a person for another 10 min");
        says(&said(&fixture, LONDONER, "sao"), "its health is set by hand: up");
        fixture.policy(|p| p.all_down = AllDown::NoAnswer);
        says(&said(&fixture, LONDONER, "syd"), "not in the IPv4 answer: nothing can be answered");
        fixture.policy(|p| p.all_down = AllDown::Fallback(vec!["192.0.2.99".parse().unwrap()]));
        says(&said(&fixture, LONDONER, "syd"), "fallback addresses");
    }
}
