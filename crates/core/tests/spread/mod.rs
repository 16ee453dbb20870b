//! A world of users, mirrors and agents around a `Spread`: a part of a network resolves, keeps the answer
//! for its TTL, and its users stay connected for minutes. Everything random comes from one seed.

mod cities;
mod room;

use cities::CITIES;
use nearmost_core::geo::table::PlaceTableBuilder;
use nearmost_core::geo::{Place, PlaceSource, Position};
use nearmost_core::health::{Family, State, Verdict};
use nearmost_core::live::{Live, LiveMirror, Load};
use nearmost_core::map::Map;
use nearmost_core::ranking::choose;
use nearmost_core::registry::{
    Domain, DomainIndex, HealthMode, Mirror, MirrorAddress, Orders, Policy, Registry,
};
use nearmost_core::spread::{DemandConfig, Plan, Spread, SpreadConfig};
use nearmost_core::time::MonoTime;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

pub const DOMAIN: &str = "play.example";
/// Seconds of virtual time from one step to the next; agents report as often.
pub const STEP: u64 = 10;
pub const HOUR: u64 = 3600;
/// Answers are kept for so long, in seconds.
const TTL: u64 = 20;
/// Mean time that users stay, in seconds.
const STAY: f64 = 300.0;
/// Networks' demand is reported every so often, in seconds.
const DEMAND_EVERY: u64 = 60;
/// Most users at once, as a share of all capacity.
const PEAK: f64 = 0.7;
const NETWORKS: usize = 400;
const PARTS: usize = 1500;

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A position in a list of weights.
    fn weighted(&mut self, weights: impl Iterator<Item = f64> + Clone) -> usize {
        let mut at = self.unit() * weights.clone().sum::<f64>();
        weights
            .clone()
            .position(|w| {
                (at < w) || {
                    at -= w;
                    false
                }
            })
            .unwrap_or(0)
    }
}

/// The users of one /20.
pub struct Part {
    pub addr: IpAddr,
    longitude: f64,
    /// Users at the busiest hour.
    size: f64,
    /// The mirror of its cached answer and when that ends.
    cached: Option<(u16, u64)>,
    /// What it would be answered since a change of offers or fleet.
    fresh: Option<(u64, Option<u16>)>,
    /// Where its users are.
    pub users: Vec<(u16, f64)>,
    /// Predicted round trips to all mirrors.
    rtt: Vec<f32>,
}

/// What makes the offers.
pub struct Broker {
    /// `None`: offers are never made.
    spread: Option<Spread>,
    pub last_plan: Plan,
    /// Counts changes of offers and fleet.
    version: u64,
}

pub struct World {
    pub rng: Rng,
    pub registry: Registry,
    map: Map,
    pub live: Live,
    pub parts: Vec<Part>,
    pub broker: Broker,
    /// Seconds since midnight UTC of the first day.
    pub now: u64,
    /// The hour stands still.
    pub frozen: Option<u64>,
    /// Reports of connections and demand are wrong by up to this share.
    pub noise: f64,
    /// Connections of each mirror.
    pub connections: Vec<f64>,
}

fn mirror(n: usize, place: Place) -> Mirror {
    Mirror {
        name: format!("m{n:03}").into(),
        domain: DomainIndex(0),
        node: None,
        address: MirrorAddress::Observed,
        port: 80,
        weight: 100,
        place,
        place_source: PlaceSource::Given,
        health: HealthMode::Agent,
        probe: None,
        url: None,
        ingress: None,
        orders: Orders::default(),
    }
}

fn near(rng: &mut Rng, city: usize) -> Place {
    let (lat, lon, ..) = CITIES[city];
    let off = |rng: &mut Rng| (rng.unit() - 0.5) * 2.0;
    Place { position: Position::from_degrees(lat + off(rng), lon + off(rng)), ..Place::default() }
}

/// How much of its users' network is there at a time of day, by longitude: most at 20 h, least at 8 h.
fn diurnal(longitude: f64, now: u64) -> f64 {
    let hour = now as f64 / 3600.0 + longitude / 15.0;
    0.65 + 0.35 * ((hour - 20.0) / 24.0 * std::f64::consts::TAU).cos()
}

impl World {
    pub fn new(seed: u64, mirrors: usize, allocates: bool) -> World {
        let mut rng = Rng(seed);
        let (records, redirect_hosts) = (Vec::new(), Vec::new());
        let policy = Policy { answers: 1, ..Policy::default() };
        let of_domain = 0..mirrors as u32;
        let (name, trust) = (DOMAIN.into(), Default::default());
        let domain = Domain { name, mirrors: of_domain, policy, records, redirect_hosts, trust };
        let place = |n| {
            let city = rng.weighted(CITIES.iter().map(|c| c.3));
            mirror(n, near(&mut rng, city))
        };
        let mirrors: Vec<Mirror> = (0..mirrors).map(place).collect();
        let domain_by_name = [(Arc::from(DOMAIN), DomainIndex(0))].into();
        let live = Live::new((0..mirrors.len()).map(|n| started(&mut rng, n)).collect());
        let registry = Registry { domains: vec![domain], mirrors, domain_by_name, ..Registry::default() };
        let (map, mut parts) = networks(&mut rng, &registry);
        let total = |now: u64| parts.iter().map(|p| p.size * diurnal(p.longitude, now)).sum::<f64>();
        let most = (0..24).map(|h| total(h * HOUR)).fold(0.0, f64::max);
        let capacity: f64 = live.mirrors.iter().map(|m| f64::from(m.load.capacity)).sum();
        parts.iter_mut().for_each(|p| p.size *= PEAK * capacity / most);
        let config = SpreadConfig {
            period: Duration::from_secs(60),
            demand: DemandConfig { period: Duration::from_secs(DEMAND_EVERY), ..DemandConfig::default() },
            ..SpreadConfig::default()
        };
        let connections = vec![0.0; live.mirrors.len()];
        World {
            rng,
            registry,
            map,
            live,
            parts,
            broker: Broker {
                spread: allocates.then(|| Spread::new(config)),
                last_plan: Plan::default(),
                version: 0,
            },
            now: 0,
            frozen: None,
            noise: 0.0,
            connections,
        }
    }

    /// Users of a part at this time.
    pub fn wanted(&self, part: &Part) -> f64 {
        part.size * diurnal(part.longitude, self.frozen.unwrap_or(self.now))
    }

    /// The hour at which most users want something.
    pub fn peak(&self) -> u64 {
        let total = |now: u64| self.parts.iter().map(|p| p.size * diurnal(p.longitude, now)).sum::<f64>();
        (0..24).map(|h| h * HOUR).max_by(|a, b| total(*a).total_cmp(&total(*b))).unwrap()
    }

    pub fn capacity(&self, m: usize) -> f64 {
        f64::from(self.live.mirrors[m].load.capacity)
    }

    pub fn up(&self, m: usize) -> bool {
        self.live.mirrors[m].eligible(Family::V4)
    }

    pub fn set(&mut self, m: usize, up: bool) {
        let state = if up { State::Up } else { State::Down };
        self.live.mirrors[m].verdicts[0].state = state;
        if !up {
            self.parts.iter_mut().for_each(|p| p.users.retain(|u| usize::from(u.0) != m));
        }
        self.broker.version += 1;
        // Who is eligible is never published without the plan for it.
        self.plan();
    }

    /// One step: users leave and come, agents report, the broker plans.
    pub fn step(&mut self) {
        self.now += STEP;
        self.come_and_go();
        self.report();
        if self.broker.spread.as_ref().is_some_and(|s| s.next_deadline().is_none_or(|d| d <= self.mono())) {
            self.plan();
        }
    }

    pub fn run_for(&mut self, seconds: u64, mut each: impl FnMut(&mut World)) {
        for _ in 0..seconds / STEP {
            self.step();
            each(self);
        }
    }

    pub fn mono(&self) -> MonoTime {
        MonoTime::from_millis(self.now * 1000)
    }

    pub fn plan(&mut self) {
        let now = self.mono();
        let Some(spread) = &mut self.broker.spread else { return };
        self.broker.last_plan = spread.plan(&self.registry, &self.map, &self.live, now);
        self.broker.version += u64::from(self.broker.last_plan.changed);
        for (mirror, offer) in self.live.mirrors.iter_mut().zip(&self.broker.last_plan.offers) {
            mirror.offer = *offer;
        }
    }

    /// The mirror that queries of a part are answered with.
    pub fn chosen(&mut self, part: usize) -> Option<u16> {
        let version = self.broker.version;
        if let Some((_, chosen)) = self.parts[part].fresh.filter(|f| f.0 == version) {
            return chosen;
        }
        let chosen = self.choose(self.parts[part].addr);
        self.parts[part].fresh = Some((version, chosen));
        chosen
    }

    fn choose(&self, addr: IpAddr) -> Option<u16> {
        let view = self.map.view(DomainIndex(0), addr)?;
        let choice = choose(&self.registry, &self.live, DomainIndex(0), &view, Family::V4);
        choice.mirrors.first().map(|c| c.mirror.0 as u16)
    }

    fn come_and_go(&mut self) {
        let stay = (-(STEP as f64) / STAY).exp();
        for n in 0..self.parts.len() {
            let cached = self.parts[n].cached;
            if cached.is_none_or(|(_, until)| until <= self.now) {
                let chosen = self.chosen(n);
                // Resolvers do not ask in step.
                let until = self.now + TTL - (n as u64 % 2) * STEP * u64::from(cached.is_none());
                self.parts[n].cached = chosen.map(|c| (c, until));
            }
            let wanted = self.wanted(&self.parts[n]);
            let cached = self.parts[n].cached.map(|c| c.0).filter(|m| self.up(usize::from(*m)));
            let users = &mut self.parts[n].users;
            users.iter_mut().for_each(|u| u.1 *= stay);
            users.retain(|u| u.1 > 0.01);
            let present: f64 = users.iter().map(|u| u.1).sum();
            let Some(cached) = cached else { continue };
            match users.iter_mut().find(|u| u.0 == cached) {
                Some(there) => there.1 += (wanted - present).max(0.0),
                None => users.push((cached, (wanted - present).max(0.0))),
            }
        }
        self.connections.iter_mut().for_each(|c| *c = 0.0);
        for (m, users) in self.parts.iter().flat_map(|p| &p.users) {
            self.connections[usize::from(*m)] += users;
        }
    }

    fn report(&mut self) {
        let (rng, noise) = (&mut self.rng, self.noise);
        let mut noisy = |n: f64| if noise > 0.0 { n * (1.0 + noise * (2.0 * rng.unit() - 1.0)) } else { n };
        for (mirror, connections) in self.live.mirrors.iter_mut().zip(&self.connections) {
            // A dead agent's last report stays.
            if mirror.eligible(Family::V4) {
                mirror.load.connections = noisy(*connections).round() as u32;
            }
        }
        let now = MonoTime::from_millis(self.now * 1000);
        let Some(spread) = &mut self.broker.spread else { return };
        if self.now.is_multiple_of(DEMAND_EVERY) {
            for part in &self.parts {
                part.users.iter().for_each(|(_, n)| spread.demand(DOMAIN, part.addr, noisy(*n) as f32, now));
            }
        }
    }
}

/// A mirror that is up, of one of very different sizes.
fn started(rng: &mut Rng, n: usize) -> LiveMirror {
    let sizes = [(60_000, 0.03), (10_000, 0.15), (3_000, 0.40), (2_000, 0.42)];
    let capacity = sizes[rng.weighted(sizes.iter().map(|s| s.1))].0;
    LiveMirror {
        v4: Some([192, 0, 2, n as u8].into()),
        verdicts: [Verdict { state: State::Up, ..Verdict::default() }; 2],
        load: Load { capacity, ..Load::default() },
        ..LiveMirror::default()
    }
}

/// Networks of Zipf's sizes in cities, cut into /20s of about the same size.
fn networks(rng: &mut Rng, registry: &Registry) -> (Map, Vec<Part>) {
    let sizes: Vec<f64> = (1..=NETWORKS).map(|rank| (rank as f64).powf(-0.9)).collect();
    let total: f64 = sizes.iter().sum();
    let mut places = PlaceTableBuilder::new();
    let mut parts = Vec::new();
    for size in sizes {
        let city = rng.weighted(CITIES.iter().map(|c| c.2));
        let count = (size / total * PARTS as f64).ceil();
        for _ in 0..count as usize {
            let addr = Ipv4Addr::from_bits((10 << 24) + ((parts.len() as u32) << 12));
            let place = near(rng, city);
            places.add_override(format!("{addr}/20").parse().unwrap(), place);
            let size = size / count * (0.5 + rng.unit());
            let longitude = CITIES[city].1;
            let (cached, fresh, users, rtt) = (None, None, Vec::new(), Vec::new());
            parts.push(Part { addr: addr.into(), longitude, size, cached, fresh, users, rtt });
        }
    }
    let places = Arc::new(places.build().unwrap());
    let map = Map::of_places(1, places.clone()).follow(registry, &places, &Arc::default(), None);
    let map = map.with_all_cells();
    for part in &mut parts {
        let view = map.view(DomainIndex(0), part.addr).unwrap();
        let (client, set) = (view.client(), view.set());
        part.rtt = (0..set.len()).map(|slot| client.ms(set.site(slot).unwrap())).collect();
    }
    (map, parts)
}
