//! Who sheds how much: the parts of a domain's demand are placed one after another with [`choose`], and a
//! mirror that is full is closed to all that come later.
//!
//! ```text
//!  turn  65534                                                     0
//!        ├─ part ─ part ─ part ─ part ─ part ─ part ─ part ─ part ─┤   parts in the order of their turns
//!   m0   ├── taken ───────────────────┤ full: sheds what is left of here
//!   m1   ├── taken, and m0's others ──────────────────┤ full
//!   m2   ├── taken, and theirs ───────────────────────────────────┤     sheds nothing
//! ```
//!
//! All mirrors shed in one order (`Part::turn`), so a shed is a point in it: placing the parts
//! from its end gives, for each mirror, the point from which on it must shed, and each part the
//! nearest mirror that has room for it. What was placed before a mirror closed stays right, because
//! only parts before that point are shed: one pass is enough, and what it plans is what queries will
//! answer. (It is serial dictatorship in the words of matching theory: stable, and a small change of
//! demand changes it little.)
//!
//! **Patience.** Users should not move for nothing. In ordinary times ([`Patience::Gradual`]) a mirror's
//! point stays where it was while its load is between the low and the high mark, and moves at bounded
//! speed. Only what would load a mirror above the hard mark is sent on at once. Where that leaves
//! parts that nobody has room for, the pass is done again without looking at what was
//! ([`Patience::AtOnce`]), and if need be up to the whole capacity of mirrors, those that start slowly
//! included ([`Patience::None`]).
//!
//! Parts are not divided, so a mirror that has no room for a large one closes although smaller ones would
//! still fit. A part that nobody has room for is left where it comes first, and closes nobody.
//!
//! **Failures.** Users of a mirror that went away come to the others at once, while those still have their
//! own, also the ones who would be sent elsewhere in future. So the plan that follows a failure
//! ([`Placing::failing`]) counts what each mirror holds and adds those who are displaced; a part that is
//! sent elsewhere without need counts there by the few of its users who come soon ([`SOON`]).

use super::room::{Asked, Room};
use crate::health::Family;
use crate::live::Live;
use crate::map::View;
use crate::ranking::{Basis, MAX_ANSWERS, choose};
use crate::registry::{DomainIndex, Registry};
use arrayvec::ArrayVec;

/// Share of a part's users who leave and come again before the plan after a failure is replaced.
const SOON: f64 = 0.25;

/// How much of what was is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Within the rates and the deadband.
    Gradual,
    /// As demand and marks say.
    AtOnce,
    /// Up to capacity, whatever else speaks against it.
    None,
}

/// The users of one part.
pub(super) struct Request<'m> {
    pub(super) turn: u16,
    pub(super) view: View<'m>,
    pub(super) family: Family,
    pub(super) users: f64,
    /// The mirror they were sent to by the last plan.
    pub(super) at: Option<u32>,
    /// The mirror before that, …
    pub(super) from: Option<u32>,
    /// … and the share of them who are likely still there, 0..=1.
    pub(super) staying: f64,
    /// The share of them whose mirror has gone away, 0..=1.
    pub(super) displaced: f64,
}

/// Where the users of a part are sent: the domain's mirrors by position, in equal shares, as resolvers
/// shuffle addresses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seat {
    pub(super) mirrors: ArrayVec<u32, MAX_ANSWERS>,
    /// They were sent there because nobody had room.
    pub(super) crowded: bool,
}

/// One pass over the demand.
pub(super) struct Placing<'a> {
    pub(super) registry: &'a Registry,
    pub(super) domain: DomainIndex,
    /// A copy whose offers of this domain are the pass's.
    pub(super) live: &'a mut Live,
    /// Of each mirror of the domain.
    pub(super) rooms: &'a mut [Room],
    pub(super) patience: Patience,
    /// Users are on their way from a mirror that went away.
    pub(super) failing: bool,
}

/// What a pass came to, beside the rooms.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// Of each request.
    pub(super) seats: Vec<Seat>,
    /// Users for whom nobody had room.
    pub(super) crowded: f64,
}

impl Placing<'_> {
    /// Places all requests, which are in descending order of turns.
    pub(super) fn run(mut self, requests: &[Request<'_>]) -> Placed {
        for slot in 0..self.rooms.len() {
            self.rooms[slot].clear(self.patience, self.failing);
            self.show(slot);
        }
        let mut placed = Placed::default();
        for group in requests.chunk_by(|a, b| a.turn == b.turn) {
            let seats = self.group(group);
            for (request, seat) in group.iter().zip(&seats) {
                placed.crowded += if seat.crowded { request.users } else { 0.0 };
            }
            placed.seats.extend(seats);
        }
        for slot in 0..self.rooms.len() {
            if !self.failing {
                self.rooms[slot].finish(self.patience);
            }
            self.show(slot);
        }
        placed
    }

    /// Lets queries see the offer of a mirror.
    fn show(&mut self, slot: usize) {
        let offer = self.rooms.get(slot).map(Room::offer).unwrap_or_default();
        if let Some(live) = entry(self.live, self.registry, self.domain, slot as u32) {
            live.offer = offer;
        }
    }

    /// Places the parts of one turn. When one of them closes a mirror, that mirror sheds all of them,
    /// so they are placed anew.
    fn group(&mut self, group: &[Request<'_>]) -> Vec<Seat> {
        loop {
            let mut seats: Vec<Seat> = Vec::with_capacity(group.len());
            let full = group.iter().find_map(|request| {
                let mut seat = self.seat(request);
                let mut full = self.full(request, &seat);
                if full.is_some() && !self.anyone(request) {
                    seat.crowded = true;
                    full = None;
                }
                if full.is_none() {
                    self.take(request, &seat, 1.0);
                    seats.push(seat);
                }
                full
            });
            let Some(slot) = full else {
                self.note(group, &seats);
                return seats;
            };
            for (request, seat) in group.iter().zip(&seats) {
                self.take(request, seat, -1.0);
            }
            // Each mirror is closed once: a part that it sheds is not refused by it again.
            self.rooms[slot as usize].close();
            self.show(slot as usize);
        }
    }

    /// Notes that these parts were taken for good.
    fn note(&mut self, group: &[Request<'_>], seats: &[Seat]) {
        for (request, seat) in group.iter().zip(seats).filter(|(_, seat)| !seat.crowded) {
            for slot in &seat.mirrors {
                if let Some(room) = self.rooms.get_mut(*slot as usize) {
                    room.work.lowest = request.turn;
                }
            }
        }
    }

    fn seat(&self, request: &Request<'_>) -> Seat {
        let choice = choose(self.registry, self.live, self.domain, &request.view, request.family);
        // An all-down policy plans nothing.
        if choice.basis != Basis::Eligible {
            return Seat::default();
        }
        let start = self.registry.domain(self.domain).mirrors.start;
        let mirrors: ArrayVec<u32, MAX_ANSWERS> =
            choice.mirrors.iter().map(|c| c.mirror.0.saturating_sub(start)).collect();
        // A mirror that sheds the part is answered only when all do.
        let sheds =
            |slot: &u32| self.rooms.get(*slot as usize).is_some_and(|r| r.offer().sheds(request.turn));
        let crowded = mirrors.iter().any(sheds);
        Seat { mirrors, crowded }
    }

    /// By how much a mirror's load grows when a part is sent there.
    fn added(&self, request: &Request<'_>, slot: u32, seat: &Seat) -> f64 {
        let users = request.users / seat.mirrors.len().max(1) as f64;
        match request.at {
            _ if !self.failing => users,
            // Counted among those that it holds.
            Some(at) if at == slot => 0.0,
            _ => request.displaced.max(SOON) * users,
        }
    }

    /// The first of the mirrors that has no room.
    fn full(&mut self, request: &Request<'_>, seat: &Seat) -> Option<u32> {
        if seat.crowded {
            return None;
        }
        let (patience, failing) = (self.patience, self.failing);
        seat.mirrors.iter().copied().find(|slot| {
            let asked = Asked { turn: request.turn, users: self.added(request, *slot, seat) };
            let room = self.rooms.get_mut(*slot as usize);
            room.is_some_and(|r| r.refuses(asked, patience, failing))
        })
    }

    /// Whether any mirror has room for a part. One that nobody can hold must not close everybody.
    fn anyone(&self, request: &Request<'_>) -> bool {
        let start = self.registry.domain(self.domain).mirrors.start as usize;
        let live = self.live.mirrors.iter().skip(start);
        self.rooms.iter().zip(live).any(|(room, live)| {
            live.eligible(request.family)
                && !room.offer().sheds(request.turn)
                && room.holds(request.users, self.patience)
        })
    }

    fn take(&mut self, request: &Request<'_>, seat: &Seat, sign: f64) {
        for slot in &seat.mirrors {
            let users = self.added(request, *slot, seat);
            if let Some(room) = self.rooms.get_mut(*slot as usize) {
                room.work.used += sign * users;
            }
        }
    }
}

/// The live entry of a mirror by its position in the domain.
pub(super) fn entry<'l>(
    live: &'l mut Live,
    registry: &Registry,
    domain: DomainIndex,
    slot: u32,
) -> Option<&'l mut crate::live::LiveMirror> {
    live.mirrors.get_mut((registry.domain(domain).mirrors.start + slot) as usize)
}
