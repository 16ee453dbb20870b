//! Why a mirror stands where it stands, in sentences.

use super::explain::source;
use super::verdicts::{family_name, health, orders};
use super::view::Ranking;
use nearmost_core::geo::{Place, countries};
use nearmost_core::health::Family;
use nearmost_core::ranking::{Basis, Candidate, Choice, How, tie_band_ms};
use nearmost_core::registry::{Mirror, MirrorIndex, Rule, RuleEffect, Strategy, Who};
use nearmost_core::rtt::{Known, Prediction};

/// Shares below this are not worth a word.
const WORTH_TELLING: f32 = 0.005;

/// All sentences about one mirror: where its round trip comes from, what puts it before or behind
/// others, its health, its place in the answers, and what people ordered.
pub(super) fn sentences(ranking: &Ranking<'_>, at: usize) -> Vec<String> {
    let Some(candidate) = ranking.all.get(at) else { return Vec::new() };
    let mut out = predicted(ranking, candidate);
    let before = at.checked_sub(1).and_then(|b| ranking.all.get(b));
    out.extend(order(ranking, before, candidate));
    out.extend(offered(ranking, candidate.mirror));
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

fn registered<'a>(ranking: &Ranking<'a>, mirror: MirrorIndex) -> &'a Mirror {
    ranking.snapshot.registry.mirror(mirror)
}

/// Where the round trip comes from.
fn predicted(ranking: &Ranking<'_>, candidate: &Candidate) -> Vec<String> {
    let Some(prediction) = ranking.prediction(candidate.mirror) else {
        return vec!["not ranked: a domain's first 65 535 mirrors are".into()];
    };
    let known = ranking.view.set().model().known(&ranking.view.place(), ranking.view.looked_up());
    let ms = prediction.ms;
    let way = way(ranking, candidate, &prediction);
    let mut out = match measured(&prediction, &known) {
        Some(by) => vec![format!("{ms:.0} ms predicted: {by}"), way],
        None if prediction.route_km.is_none() => vec![way],
        None => vec![format!("{ms:.0} ms predicted: {way}")],
    };
    if let Some(network) = known.network.filter(|_| prediction.own_ms.is_none()) {
        out.push(format!("{network} has not measured it; what it measured of others is taken into account"));
    }
    if prediction.missed {
        out.push("the client's network says that it does not reach it: counted as farther than it is".into());
    }
    let site = ranking.view.set().site(ranking.slot(candidate.mirror));
    if let Some(at) = site.filter(|s| s.misplaced()).and_then(|s| s.position()) {
        let at = Place { position: Some(at), ..Place::default() };
        out.push(format!(
            "measured faster than light from the place that was given for it: taken to be at {}",
            place(&at)
        ));
    }
    if known.moved {
        out.push(
            "the client's network measured faster than light from its place: taken to be elsewhere".into(),
        );
    }
    out
}

/// "95 % from what 198.51.100.0/24 measured itself (18.2 ms), 5 % from distance"; `None` where only
/// distance counts.
fn measured(prediction: &Prediction, known: &Known) -> Option<String> {
    let shares = &prediction.shares;
    let own = || {
        let network = known.network.map_or("its network".into(), |n| n.to_string());
        format!("what {network} measured itself ({:.1} ms)", prediction.own_ms.unwrap_or_default())
    };
    let prefix = || known.prefix.map_or("its prefix".into(), |p| p.to_string());
    let asn = || known.asn.map_or("its AS".into(), |a| format!("AS{a}"));
    let country = || known.country.and_then(countries::find).map_or("its country", |c| c.name);
    let parts = [
        (shares.network, own()),
        (shares.prefix, format!("networks in {}", prefix())),
        (shares.asn, format!("networks of {}", asn())),
        (shares.country, format!("networks in {}", country())),
        (shares.region, "nodes and networks around".into()),
        (shares.distance, "distance".into()),
    ];
    let told = parts.iter().filter(|(share, _)| *share >= WORTH_TELLING);
    let told: Vec<String> = told.map(|(share, by)| format!("{:.0} % from {by}", share * 100.0)).collect();
    (shares.distance < 1.0 - WORTH_TELLING).then(|| told.join(", "))
}

/// "760 km from the client in Germany (testdb) to the mirror in Norway (given), 1010 km along cables,
/// 17 ms by distance alone".
fn way(ranking: &Ranking<'_>, candidate: &Candidate, prediction: &Prediction) -> String {
    let mirror = registered(ranking, candidate.mirror);
    let client = &ranking.located;
    let alone = prediction.distance_ms;
    let Some(km) = candidate.distance_km else {
        let whose = if client.place.position.is_none() { "client" } else { "mirror" };
        return format!("{alone:.0} ms assumed, the worst there is: the place of the {whose} is not known");
    };
    let route = prediction.route_km.unwrap_or(km);
    format!(
        "{km:.0} km from the client in {} ({}) to the mirror in {} ({}), {route:.0} km along cables, \
         {alone:.0} ms by distance alone",
        place(&client.place),
        source(ranking).replace('_', " "),
        place(&mirror.place),
        ranking.snapshot.map.places.source_name(mirror.place_source),
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

/// The rule that does something to a mirror for this client, as it is written: `pin asn=64500`.
fn rule(ranking: &Ranking<'_>, mirror: &Mirror, effect: RuleEffect) -> String {
    let (place, addr) = (ranking.view.place(), ranking.view.looked_up());
    let closeness = |rule: &&Rule| match rule.who {
        Who::Country(code) if place.country == Some(code) => Some(0),
        Who::Asn(asn) if place.asn == Some(asn) => Some(1),
        Who::Prefix(net) if net.contains(&addr) => Some(2 + u16::from(net.prefix_len())),
        _ => None,
    };
    let rules =
        ranking.policy().rules.iter().filter(|r| r.effect == effect && r.mirrors.contains(&mirror.name));
    let closest = rules.filter_map(|r| Some((closeness(&r)?, r))).max_by_key(|(c, _)| *c);
    let what = match effect {
        RuleEffect::Pin => "pin",
        RuleEffect::Exclude => "exclude",
    };
    match closest.map(|(_, r)| r.who) {
        Some(Who::Country(code)) => format!("{what} country={code}"),
        Some(Who::Asn(asn)) => format!("{what} asn={asn}"),
        Some(Who::Prefix(net)) => format!("{what} prefix={net}"),
        None => what.into(),
    }
}

/// What puts a mirror before or behind others, besides round trips.
fn order(ranking: &Ranking<'_>, before: Option<&Candidate>, this: &Candidate) -> Option<String> {
    let mirror = registered(ranking, this.mirror);
    let pinned = |c: &Candidate| ranking.view.pins(ranking.slot(c.mirror));
    if this.excluded {
        let rule = rule(ranking, mirror, RuleEffect::Exclude);
        return Some(format!("kept from this client by the rule {rule}"));
    }
    if pinned(this) {
        let rule = rule(ranking, mirror, RuleEffect::Pin);
        return Some(format!("pinned for this client by the rule {rule}: before all that are not"));
    }
    if let Strategy::Failover(names) = &ranking.policy().strategy {
        return Some(match names.iter().position(|n| *n == mirror.name) {
            Some(at) => format!("number {} in the order of failover", at + 1),
            None => "not in the order of failover, so after all that are".into(),
        });
    }
    let before = before.filter(|b| !pinned(b))?;
    let name = &registered(ranking, before.mirror).name;
    match this.rtt_ms.total_cmp(&before.rtt_ms) {
        _ if ranking.view.shared() => {
            let cell = ranking.view.whole().cell;
            let who = match ranking.policy().strategy {
                Strategy::Weighted => "the policy shares all users out by weight",
                _ => "networks of unknown place are shared out by weight",
            };
            ranking.place_on_list(this.mirror)?;
            Some(format!("after {name} for all of {cell}: {who}"))
        }
        std::cmp::Ordering::Equal => Some(format!("as near as {name}, which stands before it by name")),
        std::cmp::Ordering::Less if ranking.place_on_list(before.mirror) == Some(0) => Some(format!(
            "behind {name} for now, though nearer: users are moved only to a mirror that is clearly better, and \
             for minutes"
        )),
        _ => None,
    }
}

/// What keeps it from its whole share of users.
fn offered(ranking: &Ranking<'_>, mirror: MirrorIndex) -> Vec<String> {
    let offer = ranking.snapshot.live.mirror(mirror).offer;
    let percent = |of: u16| f32::from(of) / f32::from(u16::MAX) * 100.0;
    let mut out = Vec::new();
    if offer.withheld > 0 {
        out.push(format!(
            "offered {:.0} % of its weight for now: it was up for too short, or has little room",
            100.0 - percent(offer.withheld)
        ));
    }
    if offer.shed > 0 {
        out.push(format!("loaded: {:.0} % of its users go on to the next mirror", percent(offer.shed)));
    }
    out
}

/// Its place in, or absence from, the answer of one family.
fn answer(ranking: &Ranking<'_>, candidate: &Candidate, family: Family) -> String {
    let choice = &ranking.choices[family.index()];
    let name = format!("the {} answer", family_name(family));
    let eligible = ranking.snapshot.live.mirror(candidate.mirror).eligible(family);
    let chosen = choice.mirrors.iter().position(|c| c.mirror == candidate.mirror);
    match (choice.basis, chosen) {
        (_, None) if candidate.excluded => format!("not in {name}: a rule keeps it from this client"),
        (Basis::Eligible, Some(0)) => format!("in {name}: {}", leads(ranking, candidate, family)),
        (Basis::Eligible, Some(_)) => {
            let (behind, band) = behind(ranking, candidate, family);
            format!("in {name}: {}, within the tie band of {band:.1} ms", gap(behind))
        }
        (Basis::Eligible, None) if !eligible => {
            format!("not in {name}: not eligible, so it gets no new users")
        }
        (Basis::Eligible, None) => format!("not in {name}: {}", passed_over(ranking, candidate, family)),
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

/// By how many milliseconds a mirror is behind the best, and how many are as good.
fn behind(ranking: &Ranking<'_>, candidate: &Candidate, family: Family) -> (f32, f32) {
    let best = ranking.best(family).map_or(candidate.rtt_ms, |b| b.rtt_ms);
    (candidate.rtt_ms - best, tie_band_ms(ranking.policy(), best))
}

/// "2.1 ms behind the best".
fn gap(behind: f32) -> String {
    match behind {
        -0.05..0.05 => "as near as the best".into(),
        0.05.. => format!("{behind:.1} ms behind the best"),
        // The first of a list is kept until another is clearly nearer, and has been for minutes.
        _ => format!("{:.1} ms nearer than the first, which is kept for now", -behind),
    }
}

/// Why the first mirror of an answer is that.
fn leads(ranking: &Ranking<'_>, candidate: &Candidate, family: Family) -> String {
    let choice = &ranking.choices[family.index()];
    let part = choice.part.cell;
    let (behind, band) = behind(ranking, candidate, family);
    match choice.how {
        How::First if ranking.view.pins(ranking.slot(candidate.mirror)) => {
            "the nearest eligible mirror of those that a rule pins".into()
        }
        How::First if matches!(ranking.policy().strategy, Strategy::Failover(_)) => {
            "the first eligible mirror of the order of failover".into()
        }
        How::First => "the nearest eligible mirror".into(),
        How::Spread => format!(
            "{part} is given to it by weight, among mirrors within the tie band of {band:.1} ms; it is {}",
            gap(behind)
        ),
        How::Explored => format!("{part} tries it out for some minutes: it may be nearer than predicted"),
        How::SharedOut => {
            format!("the one eligible mirror that {} is given by weight", shared_out(ranking, choice))
        }
        How::Beyond => "the best of those beyond the list, of which none can take these users".into(),
        How::Spilled => format!("{part} comes to it because better mirrors are too loaded for everyone"),
    }
}

/// "192.0.2.0/24, whose place is not known,".
fn shared_out(ranking: &Ranking<'_>, choice: &Choice) -> String {
    let part = choice.part.cell;
    match ranking.policy().strategy {
        Strategy::Weighted => format!("{part}"),
        _ => format!("{part}, whose place is not known,"),
    }
}

/// Why an eligible mirror is not in an answer of eligible ones.
fn passed_over(ranking: &Ranking<'_>, candidate: &Candidate, family: Family) -> String {
    let choice = &ranking.choices[family.index()];
    let part = choice.part.cell;
    let first = choice.mirrors.first().copied();
    let at = ranking.place_on_list(candidate.mirror);
    let ahead = first.zip(at).is_some_and(|(first, at)| at < usize::from(first.rank));
    let pins = |m: MirrorIndex| ranking.view.pins(ranking.slot(m));
    let (behind, band) = behind(ranking, candidate, family);
    let ends = choice.mirrors.iter().map(|c| usize::from(c.band_end)).max();
    let equal = at.zip(ends).is_some_and(|(at, end)| at <= end) && behind <= band;
    match choice.how {
        How::SharedOut => {
            format!("{} is given another mirror by weight", shared_out(ranking, choice))
        }
        How::Explored => format!("{part} tries out another mirror for some minutes"),
        How::Spilled | How::Beyond if ahead => format!("loaded, so it sends {part} on to the next"),
        _ if first.is_some_and(|f| pins(f.mirror)) && !pins(candidate.mirror) => {
            "a rule pins others for this client".into()
        }
        How::First if matches!(ranking.policy().strategy, Strategy::Failover(_)) => {
            "an earlier mirror of the order of failover is eligible".into()
        }
        How::Spread if equal && choice.mirrors.len() < usize::from(ranking.policy().answers) => format!(
            "within the tie band, but {part} is given to others by weight, and its weight is too unlike theirs \
             to be answered beside them"
        ),
        How::Spread if equal => format!(
            "within the tie band, but {part} is given to others by weight, and an answer holds at most {}",
            ranking.policy().answers
        ),
        _ if behind > band => {
            format!("{behind:.1} ms behind the best, outside the tie band of {band:.1} ms")
        }
        _ => format!("within the tie band, but an answer holds at most {}", ranking.policy().answers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::Fixture;
    use nearmost_core::geo::CountryCode;
    use nearmost_core::health::State;
    use nearmost_core::live::Offer;
    use nearmost_core::registry::{AllDown, Force, ForcedTo, HealthMode};
    use nearmost_core::time::UnixMillis;

    fn said(fixture: &Fixture, client: &str, mirror: &str) -> String {
        let snapshot = fixture.snapshot();
        let domain = snapshot.registry.find_domain(crate::api::testing::DOMAIN).unwrap();
        let ranking = Ranking::new(&snapshot, domain, client.parse().unwrap(), fixture.now()).unwrap();
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
        fixture.mirror("nyc", |m| (m.place, m.weight) = (london, 60));
        says(&said(&fixture, LONDONER, "nyc"), "as near as lon, which stands before it by name");
        let both = said(&fixture, LONDONER, "nyc") + &said(&fixture, LONDONER, "lon");
        says(
            &both,
            "in the IPv4 answer: 198.51.100.0/24 is given to it by weight, among mirrors within the tie band",
        );
        says(&both, "in the IPv4 answer: as near as the best");
        fixture.mirror("sao", |m| m.place = london);
        let all = ["lon", "nyc", "sao"].map(|m| said(&fixture, LONDONER, m)).join("\n");
        let none = "within the tie band, but 198.51.100.0/24 is given to others by weight, and an answer holds at most 2";
        assert_eq!(all.matches(none).count(), 1, "{all}");
        fixture.mirror("lon", |m| m.weight = 900);
        fixture.mirror("nyc", |m| m.weight = 9);
        let all = ["lon", "nyc", "sao"].map(|m| said(&fixture, LONDONER, m)).join("\n");
        assert_eq!(
            all.matches("its weight is too unlike theirs to be answered beside them").count(),
            2,
            "{all}"
        );
        fixture.mirror("lon", |m| m.weight = 100);
        fixture.policy(|p| p.strategy = Strategy::Nearest);
        says(&said(&fixture, LONDONER, "lon"), "in the IPv4 answer: the nearest eligible mirror");
        says(&said(&fixture, LONDONER, "sao"), "within the tie band, but an answer holds at most 2");
    }

    #[test]
    fn sharing_out_is_told_where_the_place_is_not_known() {
        let mut fixture = Fixture::five_mirrors();
        let all = ["lon", "nyc", "sao", "sin", "syd"].map(|m| said(&fixture, "192.0.2.200", m));
        let with = |part: &str| all.iter().filter(|text| text.contains(part)).count();
        assert_eq!(with("in the IPv4 answer: the one eligible mirror that 192.0.2.0/24, whose place"), 1);
        assert_eq!(
            with("not in the IPv4 answer: 192.0.2.0/24, whose place is not known, is given another"),
            4
        );
        assert_eq!(with(" for all of 192.0.2.0/24: networks of unknown place are shared out by weight"), 4);
        assert_eq!((with("tie band"), with("nearest"), with("as near as")), (0, 0, 0));
        fixture.policy(|p| p.strategy = Strategy::Weighted);
        let all = ["lon", "nyc", "sao", "sin", "syd"].map(|m| said(&fixture, LONDONER, m)).join("\n");
        says(&all, "the one eligible mirror that 198.51.100.0/24 is given by weight");
        says(&all, "for all of 198.51.100.0/24: the policy shares all users out by weight");
    }

    #[test]
    fn measurements_are_told_with_their_shares() {
        let mut fixture = Fixture::five_mirrors();
        fixture.learn(&[(LONDONER, "nyc", 70.0)]);
        let seen = said(&fixture, LONDONER, "nyc");
        says(
            &seen,
            " ms predicted: 95 % from what 198.51.100.0/24 measured itself (70.0 ms), 5 % from distance",
        );
        says(&seen, " km along cables, ");
        says(
            &said(&fixture, LONDONER, "lon"),
            "198.51.100.0/24 has not measured it; what it measured of others is taken into account",
        );
        says(&said(&fixture, "203.0.113.9", "nyc"), " ms predicted: 0 km from the client in United States");
    }

    #[test]
    fn rules_orders_of_failover_and_loads_are_told() {
        let mut fixture = Fixture::five_mirrors();
        let rule = |effect, who, mirror: &str| Rule { effect, who, mirrors: vec![mirror.into()] };
        let net = Who::Prefix("198.51.0.0/16".parse().unwrap());
        let country = Who::Country(CountryCode::new("GB").unwrap());
        fixture.policy(|p| {
            p.rules = vec![
                rule(RuleEffect::Pin, net, "sao"),
                rule(RuleEffect::Pin, country, "syd"),
                rule(RuleEffect::Exclude, country, "lon"),
            ]
        });
        says(&said(&fixture, LONDONER, "sao"), "pinned for this client by the rule pin prefix=198.51.0.0/16");
        says(
            &said(&fixture, LONDONER, "sao"),
            "in the IPv4 answer: the nearest eligible mirror of those that a rule pins",
        );
        says(&said(&fixture, LONDONER, "nyc"), "not in the IPv4 answer: a rule pins others for this client");
        says(&said(&fixture, LONDONER, "lon"), "kept from this client by the rule exclude country=GB");
        says(&said(&fixture, LONDONER, "lon"), "not in the IPv4 answer: a rule keeps it from this client");
        let order = vec!["syd".into(), "nyc".into()];
        fixture.policy(|p| (p.rules, p.strategy) = (Vec::new(), Strategy::Failover(order)));
        says(
            &said(&fixture, LONDONER, "syd"),
            "in the IPv4 answer: the first eligible mirror of the order of failover",
        );
        says(&said(&fixture, LONDONER, "nyc"), "number 2 in the order of failover");
        says(&said(&fixture, LONDONER, "lon"), "not in the order of failover");
        says(&said(&fixture, LONDONER, "lon"), "an earlier mirror of the order of failover is eligible");
        fixture.policy(|p| p.strategy = Strategy::Balanced);
        fixture.offer("lon", Offer { withheld: Offer::share(0.5), shed: u16::MAX });
        says(&said(&fixture, LONDONER, "lon"), "offered 50 % of its weight");
        says(&said(&fixture, LONDONER, "lon"), "loaded: 100 % of its users go on to the next mirror");
        says(
            &said(&fixture, LONDONER, "lon"),
            "not in the IPv4 answer: loaded, so it sends 198.51.100.0/24 on to the next",
        );
        says(
            &said(&fixture, LONDONER, "nyc"),
            "198.51.100.0/24 comes to it because better mirrors are too loaded",
        );
    }

    #[test]
    fn orders_and_all_down_policies_are_told() {
        let mut fixture = Fixture::five_mirrors();
        let until = UnixMillis(fixture.now().0 + 600_000);
        fixture.mirror("lon", |m| m.orders.drained = true);
        fixture.mirror("nyc", |m| m.orders.force = Some(Force { to: ForcedTo::Down, until }));
        fixture.mirror("sao", |m| m.health = HealthMode::Manual { up: true });
        for mirror in ["lon", "nyc", "sao", "sin", "syd"] {
            fixture.set_state(mirror, State::Down);
        }
        fixture.policy(|p| p.failover.all_down = AllDown::All);
        says(&said(&fixture, LONDONER, "lon"), "drained by order: ");
        says(&said(&fixture, LONDONER, "lon"), "no mirror is eligible, and the policy is to answer all");
        says(&said(&fixture, LONDONER, "nyc"), "forced down by a person for another 10 min");
        says(&said(&fixture, LONDONER, "sao"), "its health is set by hand: up");
        fixture.policy(|p| p.failover.all_down = AllDown::NoAnswer);
        says(&said(&fixture, LONDONER, "syd"), "not in the IPv4 answer: nothing can be answered");
        fixture.policy(|p| p.failover.all_down = AllDown::Fallback(vec!["192.0.2.99".parse().unwrap()]));
        says(&said(&fixture, LONDONER, "syd"), "fallback addresses");
    }
}
