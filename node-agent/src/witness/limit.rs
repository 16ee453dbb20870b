//! How often this agent probes anybody for brokers, whatever these ask for. Nobody can use it to flood
//! or to sweep others:
//!
//! | bound | over |
//! |---|---|
//! | [`INQUIRIES`] inquiries, so at most as many times [`MAX_ATTEMPTS`] attempts, each [`QUIET`] | an address, all brokers together |
//! | [`NETWORK_ORDERS`] orders a [`MINUTE`] | a /24 or /48 |
//! | `witness.per_second`, and [`BURST_SECONDS`] times as many at once after a pause | all there are |
//! | [`NAMES`] mirrors, of each [`ADDRESSES`] addresses an [`HOUR`] | a broker |
//!
//! Pure: time is handed in. An order that is declined costs nothing of any bound, so a broker that
//! asks too much delays nobody else. An address is more than one inquiry's because a machine serves at
//! several ports and under several names, which are suspected together when it dies.
//!
//! [`MAX_ATTEMPTS`]: nearmost_wire::witness::MAX_ATTEMPTS

use nearmost_core::time::MonoTime;
use nearmost_wire::witness::Decline;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// From an inquiry's end until another takes its place at the address.
pub const QUIET: Duration = Duration::from_secs(2);
/// Inquiries about one address that are under way or ended within [`QUIET`].
pub const INQUIRIES: usize = 4;
/// Orders for addresses of one network within a [`MINUTE`].
pub const NETWORK_ORDERS: usize = 30;
/// Over which a network's orders are counted.
pub const MINUTE: Duration = Duration::from_secs(60);
/// How many seconds' worth of orders may come at once after a pause.
pub const BURST_SECONDS: u32 = 3;
/// Mirrors that one broker may ask about within an [`HOUR`].
pub const NAMES: usize = 4096;
/// Addresses of one mirror that one broker may ask about within an [`HOUR`].
pub const ADDRESSES: usize = 16;
/// Over which a broker's mirrors and their addresses are counted.
pub const HOUR: Duration = Duration::from_secs(3600);
/// Addresses and networks remembered at once; orders beyond that are declined.
const MOST: usize = 16_384;

/// What an order is about.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Position in the configuration of the broker that wants it.
    pub broker: usize,
    /// Hash of domain and mirror; two mirrors with one hash share a bound, which harms nobody.
    pub name: u64,
    /// Where to, in canonical form.
    pub address: IpAddr,
    /// A number that no other inquiry has.
    pub inquiry: u64,
    /// From now to the end of the last attempt, if it takes all the time that it may.
    pub longest: Duration,
}

/// What was probed lately.
#[derive(Debug)]
pub struct Limiter {
    rate: u32,
    tokens: f64,
    filled: MonoTime,
    /// The inquiries about each address, and until when each takes up its place.
    addresses: HashMap<IpAddr, Vec<(u64, MonoTime)>>,
    /// When each network's latest orders came.
    networks: HashMap<IpAddr, VecDeque<MonoTime>>,
    /// By broker and name: addresses, and when each was last asked about.
    names: HashMap<usize, HashMap<u64, Vec<(IpAddr, MonoTime)>>>,
}

impl Limiter {
    /// At most `rate` orders a second in all; 0 for none.
    pub fn new(rate: u32, now: MonoTime) -> Limiter {
        Limiter {
            rate,
            tokens: f64::from(rate) * f64::from(BURST_SECONDS),
            filled: now,
            addresses: HashMap::new(),
            networks: HashMap::new(),
            names: HashMap::new(),
        }
    }

    /// Takes an order, which is then carried out, or says why not.
    ///
    /// # Errors
    /// The bound that it would break.
    pub fn admit(&mut self, wanted: Wanted, now: MonoTime) -> Result<(), Decline> {
        if self.rate == 0 {
            return Err(Decline::Disabled);
        }
        self.fill(now);
        self.name_allows(&wanted, now)?;
        if !self.address_allows(wanted.address, now) {
            return Err(Decline::TooFast);
        }
        let network = network(wanted.address);
        if self.network_orders(network, now) >= NETWORK_ORDERS || self.tokens < 1.0 {
            return Err(Decline::TooFast);
        }
        self.make_room(now)?;
        self.tokens -= 1.0;
        let place = (wanted.inquiry, now + wanted.longest + QUIET);
        self.addresses.entry(wanted.address).or_default().push(place);
        self.networks.entry(network).or_default().push_back(now);
        self.note_name(&wanted, now);
        Ok(())
    }

    /// An inquiry that was admitted has ended: what it had left to do is not done.
    pub fn ended(&mut self, address: IpAddr, inquiry: u64, now: MonoTime) {
        let places = self.addresses.get_mut(&address);
        if let Some((_, until)) = places.and_then(|p| p.iter_mut().find(|(i, _)| *i == inquiry)) {
            *until = (*until).min(now + QUIET);
        }
    }

    fn address_allows(&mut self, address: IpAddr, now: MonoTime) -> bool {
        let Some(places) = self.addresses.get_mut(&address) else { return true };
        places.retain(|(_, until)| *until > now);
        places.len() < INQUIRIES
    }

    fn fill(&mut self, now: MonoTime) {
        let rate = f64::from(self.rate);
        let gained = now.since(self.filled).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(rate * f64::from(BURST_SECONDS));
        self.filled = self.filled.max(now);
    }

    /// A broker names each mirror, and mirrors have few addresses: one that names another address each
    /// time looks for something else than mirrors.
    fn name_allows(&mut self, wanted: &Wanted, now: MonoTime) -> Result<(), Decline> {
        let names = self.names.entry(wanted.broker).or_default();
        if !names.contains_key(&wanted.name) && names.len() >= NAMES {
            names.retain(|_, addresses| addresses.iter().any(|(_, at)| now.since(*at) < HOUR));
            return if names.len() < NAMES { Ok(()) } else { Err(Decline::Forbidden) };
        }
        let Some(addresses) = names.get_mut(&wanted.name) else { return Ok(()) };
        addresses.retain(|(_, at)| now.since(*at) < HOUR);
        let known = addresses.iter().any(|(address, _)| *address == wanted.address);
        if known || addresses.len() < ADDRESSES { Ok(()) } else { Err(Decline::Forbidden) }
    }

    fn note_name(&mut self, wanted: &Wanted, now: MonoTime) {
        let addresses = self.names.entry(wanted.broker).or_default().entry(wanted.name).or_default();
        match addresses.iter_mut().find(|(address, _)| *address == wanted.address) {
            Some((_, at)) => *at = now,
            None => addresses.push((wanted.address, now)),
        }
    }

    fn network_orders(&mut self, network: IpAddr, now: MonoTime) -> usize {
        let Some(orders) = self.networks.get_mut(&network) else { return 0 };
        while orders.front().is_some_and(|at| now.since(*at) >= MINUTE) {
            orders.pop_front();
        }
        orders.len()
    }

    /// Forgets what is over once there is much of it.
    fn make_room(&mut self, now: MonoTime) -> Result<(), Decline> {
        if self.addresses.len() >= MOST {
            self.addresses.retain(|_, places| places.iter().any(|(_, until)| *until > now));
        }
        if self.networks.len() >= MOST {
            self.networks.retain(|_, orders| orders.back().is_some_and(|at| now.since(*at) < MINUTE));
        }
        let room = self.addresses.len() < MOST && self.networks.len() < MOST;
        if room { Ok(()) } else { Err(Decline::Overload) }
    }
}

/// The /24 or /48 around an address.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & !0xff).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 80 << 80).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_wire::witness::MAX_OFFSET_MS;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const RATE: u32 = 20;

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    fn limiter() -> Limiter {
        Limiter::new(RATE, at(0))
    }

    fn to(address: [u8; 4]) -> Wanted {
        let address = Ipv4Addr::from(address).into();
        Wanted { broker: 0, name: 1, address, inquiry: 0, longest: Duration::from_millis(300) }
    }

    #[test]
    fn an_address_has_few_inquiries_at_once_whoever_asks() {
        let mut limiter = limiter();
        let numbered = |inquiry: u64| Wanted { inquiry, ..to([192, 0, 2, 1]) };
        for n in 0..INQUIRIES as u64 {
            assert_eq!(limiter.admit(numbered(n), at(n)), Ok(()));
        }
        for broker in 0..3 {
            let more = Wanted { broker, name: broker as u64, ..numbered(9) };
            assert_eq!(limiter.admit(more, at(2299)), Err(Decline::TooFast));
        }
        assert_eq!(limiter.admit(to([192, 0, 2, 2]), at(2299)), Ok(()));
        // The first one's place is free, the second one's not yet.
        assert_eq!(limiter.admit(numbered(10), at(2300)), Ok(()));
        assert_eq!(limiter.admit(numbered(11), at(2300)), Err(Decline::TooFast));
    }

    #[test]
    fn what_ends_early_makes_room_early_and_what_ends_late_no_later() {
        let mut limiter = limiter();
        let address = to([192, 0, 2, 1]).address;
        let numbered = |inquiry: u64| Wanted { inquiry, ..to([192, 0, 2, 1]) };
        for n in 0..INQUIRIES as u64 {
            assert_eq!(limiter.admit(numbered(n), at(0)), Ok(()));
        }
        limiter.ended(address, 2, at(10));
        limiter.ended(address, 1, at(5_000));
        limiter.ended(address, 99, at(0));
        assert_eq!(limiter.admit(numbered(4), at(2009)), Err(Decline::TooFast));
        assert_eq!(limiter.admit(numbered(4), at(2010)), Ok(()));
        assert_eq!(limiter.admit(numbered(5), at(2010)), Err(Decline::TooFast));
        assert_eq!(limiter.admit(numbered(5), at(2300)), Ok(()));
    }

    #[test]
    fn a_network_has_so_many_orders_a_minute() {
        let mut limiter = limiter();
        let host = |n: usize| Wanted { name: n as u64, ..to([192, 0, 2, n as u8]) };
        for n in 0..NETWORK_ORDERS {
            assert_eq!(limiter.admit(host(n), at(n as u64)), Ok(()), "{n}");
        }
        assert_eq!(limiter.admit(host(99), at(59_999)), Err(Decline::TooFast));
        assert_eq!(limiter.admit(Wanted { name: 77, ..to([192, 0, 3, 1]) }, at(59_999)), Ok(()));
        assert_eq!(limiter.admit(host(99), at(60_000)), Ok(()));
    }

    #[test]
    fn all_orders_together_have_a_rate() {
        let mut limiter = limiter();
        let mut taken = |ms: u64| {
            let far = |n: u16| Wanted { name: n.into(), ..to([10, (n >> 8) as u8, n as u8, ms as u8]) };
            (0..200).filter(|n| limiter.admit(far(*n), at(ms)) == Ok(())).count()
        };
        assert_eq!([taken(0), taken(49), taken(50), taken(1050)], [60, 0, 1, 20]);
        let mut off = Limiter::new(0, at(0));
        assert_eq!(off.admit(to([192, 0, 2, 1]), at(9_999)), Err(Decline::Disabled));
    }

    #[test]
    fn a_broker_cannot_sweep_addresses_under_few_names_nor_invent_names_without_end() {
        let mut limiter = Limiter::new(1_000_000, at(0));
        let address = |n: usize| to([10, 0, n as u8, 1]);
        for n in 0..ADDRESSES {
            assert_eq!(limiter.admit(address(n), at(n as u64)), Ok(()));
        }
        assert_eq!(limiter.admit(address(99), at(99)), Err(Decline::Forbidden));
        // Another broker is another matter, and so are addresses that are known.
        assert_eq!(limiter.admit(Wanted { broker: 1, ..address(99) }, at(99)), Ok(()));
        assert_eq!(limiter.admit(address(3), at(5_000)), Ok(()));
        // One of them was not asked about for an hour.
        assert_eq!(limiter.admit(address(98), at(3_600_000)), Ok(()));
        let mut limiter = Limiter::new(1_000_000, at(0));
        let named = |n: usize| Wanted { name: n as u64, ..to([10, (n >> 8) as u8, n as u8, 1]) };
        for n in 0..NAMES {
            assert_eq!(limiter.admit(named(n), at(0)), Ok(()), "{n}");
        }
        assert_eq!(limiter.admit(named(NAMES), at(1)), Err(Decline::Forbidden));
        assert_eq!(limiter.admit(named(NAMES), at(3_600_000)), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_what_is_over_makes_room() {
        let mut limiter = Limiter::new(1_000_000, at(0));
        let far = |n: usize| {
            let [_, a, b, c] = (n as u32).to_be_bytes();
            Wanted { broker: n / NAMES, name: n as u64, ..to([a + 10, b, c, 1]) }
        };
        for n in 0..MOST {
            assert_eq!(limiter.admit(far(n), at(0)), Ok(()), "{n}");
        }
        assert_eq!(limiter.admit(far(MOST), at(59_000)), Err(Decline::Overload));
        assert_eq!(limiter.admit(far(MOST), at(60_000)), Ok(()));
        assert_eq!((limiter.addresses.len(), limiter.networks.len()), (1, 1));
    }

    proptest! {
        /// Whatever is asked by whom and when: in no window of 2 s are there attempts of more inquiries
        /// toward an address than it may have, in none of a minute more orders than a network may have, and
        /// never more in all than the rate allows.
        #[test]
        fn no_window_has_more_than_its_bound(
            asked in prop::collection::vec((0u64..400, 0usize..3, 0u64..5, 0u8..4, 0u8..3, 0u16..=MAX_OFFSET_MS), 1..400),
            early in 0u64..=u64::from(MAX_OFFSET_MS),
        ) {
            let mut limiter = limiter();
            let mut now = 0;
            let mut sent: Vec<(u64, IpAddr, u64)> = Vec::new();
            for (inquiry, (gap, broker, name, host, net, longest)) in (0u64..).zip(asked) {
                now += gap;
                let address = IpAddr::from([192, 0, net, host]);
                let longest = u64::from(longest);
                let wanted =
                    Wanted { broker, name, address, inquiry, longest: Duration::from_millis(longest) };
                if limiter.admit(wanted, at(now)).is_ok() {
                    let end = now + longest.min(early);
                    limiter.ended(address, inquiry, at(end));
                    sent.push((now, address, end));
                }
            }
            let quiet = QUIET.as_millis() as u64;
            for (i, &(start, address, _)) in sent.iter().enumerate() {
                let before = sent[..i].iter();
                let beside = before.filter(|&&(_, a, end)| a == address && start < end + quiet);
                prop_assert!(beside.count() < INQUIRIES);
                let later = || sent[i + 1..].iter();
                let near = later().filter(|&&(t, a, _)| network(a) == network(address) && t < start + 60_000);
                prop_assert!(near.count() < NETWORK_ORDERS);
                for (n, &(t, _, _)) in later().enumerate() {
                    let most = f64::from(RATE) * (f64::from(BURST_SECONDS) + (t - start) as f64 / 1000.0);
                    prop_assert!((n + 2) as f64 <= most + 1e-6);
                }
            }
        }
    }
}
