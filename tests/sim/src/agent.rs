//! The agents: beacons from their timers, reports every five seconds, and sessions that they begin
//! anew when nothing is acknowledged.

use crate::broker::{Happening, Nearmost};
use crate::session::{Body, Post};
use crate::world::Ground;

/// Time between two beacons, in microseconds.
pub const BEACON_US: u64 = 200_000;
/// Time between two reports, in microseconds.
const REPORT_US: u64 = 5_000_000;

/// One host's agent process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Agent {
    /// Counts its starts; what an earlier life began ends with it.
    pub life: u32,
    /// When it says that it started, by its own wall clock.
    pub boot: u64,
    /// Number of its session.
    pub session: u64,
    /// Number of its next beacon.
    seq: u32,
    /// Its first session told it its key.
    beacons: bool,
}

impl Nearmost {
    /// An agent's process starts.
    pub fn start_agent(&mut self, host: u32, ground: &mut Ground<Happening>) {
        let boot = ground.host_clock_us(host);
        let Agent { life, session, .. } = self.agents[host as usize];
        self.agents[host as usize] = Agent { life: life + 1, boot, session, ..Agent::default() };
        self.connect(host, ground);
    }

    /// An agent begins a session.
    pub fn connect(&mut self, host: u32, ground: &mut Ground<Happening>) {
        let agent = &mut self.agents[host as usize];
        agent.session += 1;
        let post = Post { host, from_agent: true, session: agent.session, life: agent.life };
        let body = Body::Up { boot: agent.boot };
        // The handshake: one round trip before the session can say anything.
        let handshake = 2 * ground.net.delay_us(host, ground.broker());
        self.post(post, body, handshake, ground);
    }

    /// The broker acknowledged a session's beginning.
    pub(crate) fn connected(&mut self, host: u32, ground: &mut Ground<Happening>) {
        self.report(host, ground);
        let agent = &mut self.agents[host as usize];
        if !agent.beacons {
            agent.beacons = true;
            let life = agent.life;
            let first = ground.rng.below(BEACON_US);
            ground.after(first, Happening::Beacon { host, life });
            ground.after(REPORT_US, Happening::ReportDue { host, life });
        }
    }

    /// An agent's timer for beacons.
    pub(crate) fn beacon(&mut self, host: u32, life: u32, ground: &mut Ground<Happening>) {
        let agent = &mut self.agents[host as usize];
        let about = &ground.hosts[host as usize];
        if agent.life != life || !about.has_agent() {
            return;
        }
        if about.paused_until > ground.now {
            let left = about.paused_until - ground.now;
            return ground.after(left, Happening::Beacon { host, life });
        }
        let (boot, seq, draining) = (agent.boot, agent.seq, about.draining);
        agent.seq += 1;
        let broker = ground.broker();
        ground.send(host, broker, Happening::BeaconArrives { host, boot, seq, draining });
        ground.after(BEACON_US, Happening::Beacon { host, life });
    }

    /// An agent's timer for reports.
    pub(crate) fn report_due(&mut self, host: u32, life: u32, ground: &mut Ground<Happening>) {
        let about = &ground.hosts[host as usize];
        if self.agents[host as usize].life != life || !about.has_agent() {
            return;
        }
        if about.paused_until > ground.now {
            let left = about.paused_until - ground.now;
            return ground.after(left, Happening::ReportDue { host, life });
        }
        self.report(host, ground);
        ground.after(REPORT_US, Happening::ReportDue { host, life });
    }

    /// An agent says how its service is, now.
    pub fn report(&mut self, host: u32, ground: &mut Ground<Happening>) {
        let about = &ground.hosts[host as usize];
        let body = Body::Report { healthy: about.healthy, ready: about.ready, draining: about.draining };
        let agent = self.agents[host as usize];
        let post = Post { host, from_agent: true, session: agent.session, life: agent.life };
        self.post(post, body, 0, ground);
    }

    /// An agent's process says goodbye; it is over already.
    pub(crate) fn leave(&mut self, host: u32, ground: &mut Ground<Happening>) {
        let agent = self.agents[host as usize];
        let post = Post { host, from_agent: true, session: agent.session, life: agent.life };
        self.post(post, Body::Left, 0, ground);
    }
}
