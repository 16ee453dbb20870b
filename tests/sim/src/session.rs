//! Sessions: messages between agents and the broker that arrive late rather than never.
//!
//! A message is sent again after max(2 × RTT, 200 ms) until it is acknowledged. A session in which
//! nothing is acknowledged, or nothing heard, for 15 s is over for that side.

use crate::broker::{Happening, Nearmost};
use crate::witness::Seen;
use crate::world::{Arrival, Ground};

/// How long a side waits before it gives a session up, in microseconds.
pub const IDLE_US: u64 = 15_000_000;
/// Least wait before a message is sent again, in microseconds.
const RETRANSMIT_US: u64 = 200_000;

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Body {
    /// A session begins.
    Up {
        /// When the agent started.
        boot: u64,
    },
    /// How the service is.
    Report {
        /// Its checks pass.
        healthy: bool,
        /// It may take users.
        ready: bool,
        /// The agent drains.
        draining: bool,
    },
    /// Goodbye.
    Left,
    /// The broker asks a witness to look; the number of its order.
    Order(u64),
    /// The witness tells what it saw.
    Answer(u64, Seen),
}

/// Between whom, and in which session, a message goes.
#[derive(Clone, Copy, Debug)]
pub struct Post {
    /// The agent's host.
    pub host: u32,
    /// From the agent to the broker, or else the other way.
    pub from_agent: bool,
    /// In which session.
    pub session: u64,
    /// The agent's life at that time.
    pub life: u32,
}

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is sent, for the first time or again.
    Sent,
    /// It reaches the other side.
    Arrives,
    /// Its acknowledgement reaches the sender.
    Acknowledged,
}

struct Message {
    post: Post,
    body: Body,
    since: u64,
    tries: u32,
    delivered: bool,
    serial: u32,
}

/// All messages under way, and what the broker knows of its sessions.
#[derive(Default)]
pub struct Sessions {
    messages: Vec<Option<Message>>,
    free: Vec<u32>,
    serial: u32,
    /// Of each host: the newest session that the broker has, and when it last heard in one.
    pub at_broker: Vec<Option<u64>>,
    heard: Vec<u64>,
}

impl Sessions {
    /// No sessions of so many hosts.
    pub fn new(hosts: usize) -> Sessions {
        Sessions { at_broker: vec![None; hosts], heard: vec![0; hosts], ..Sessions::default() }
    }

    /// The broker's process ended, and every session with it.
    pub fn forget(&mut self) {
        self.at_broker.fill(None);
    }

    fn get(&mut self, slot: u32, serial: u32) -> Option<&mut Message> {
        self.messages.get_mut(slot as usize)?.as_mut().filter(|m| m.serial == serial)
    }

    fn end(&mut self, slot: u32) {
        if self.messages[slot as usize].take().is_some() {
            self.free.push(slot);
        }
    }

    /// How a step reaches the broker's process.
    pub fn arrival(&self, slot: u32, step: Step) -> Arrival {
        let from_agent = self.messages[slot as usize].as_ref().is_some_and(|m| m.post.from_agent);
        match step {
            Step::Arrives if from_agent => Arrival::Datagram,
            Step::Acknowledged if !from_agent => Arrival::Datagram,
            Step::Sent if !from_agent => Arrival::Timer,
            _ => Arrival::Elsewhere,
        }
    }
}

impl Nearmost {
    /// Sends a message so many microseconds from now.
    pub fn post(&mut self, post: Post, body: Body, after: u64, ground: &mut Ground<Happening>) {
        let sessions = &mut self.sessions;
        sessions.serial = sessions.serial.wrapping_add(1);
        let serial = sessions.serial;
        let message = Message { post, body, since: ground.now + after, tries: 0, delivered: false, serial };
        let slot = match sessions.free.pop() {
            Some(slot) => {
                sessions.messages[slot as usize] = Some(message);
                slot
            }
            None => {
                sessions.messages.push(Some(message));
                (sessions.messages.len() - 1) as u32
            }
        };
        ground.after(after, Happening::Message(slot, serial, Step::Sent));
    }

    /// Something happens to a message.
    pub(crate) fn message(&mut self, slot: u32, serial: u32, step: Step, ground: &mut Ground<Happening>) {
        let Some(message) = self.sessions.get(slot, serial) else { return };
        let (post, body) = (message.post, message.body);
        let at_agent = post.from_agent != (step == Step::Arrives);
        if at_agent && !self.agent_looks(slot, serial, step, &post, body, ground) {
            return;
        }
        match step {
            Step::Sent => self.transmit(slot, serial, ground),
            Step::Arrives => self.arrives(slot, serial, ground),
            Step::Acknowledged => {
                self.sessions.end(slot);
                if matches!(body, Body::Up { .. }) && post.session == self.agents[post.host as usize].session
                {
                    self.connected(post.host, ground);
                }
            }
        }
    }

    /// Whether the agent's process is there to see a step of a message. One that stands still sees
    /// it later, one that ended never.
    fn agent_looks(
        &mut self,
        slot: u32,
        serial: u32,
        step: Step,
        post: &Post,
        body: Body,
        ground: &mut Ground<Happening>,
    ) -> bool {
        let about = &ground.hosts[post.host as usize];
        let alive = about.has_agent() && self.agents[post.host as usize].life == post.life;
        if !alive && (body != Body::Left || !about.powered) {
            self.sessions.end(slot);
            return false;
        }
        if about.paused_until > ground.now {
            ground.after(about.paused_until - ground.now, Happening::Message(slot, serial, step));
            return false;
        }
        true
    }

    fn transmit(&mut self, slot: u32, serial: u32, ground: &mut Ground<Happening>) {
        let Some(message) = self.sessions.get(slot, serial) else { return };
        let Post { host, from_agent, session, life } = message.post;
        if ground.now >= message.since + IDLE_US || message.body == Body::Left && message.tries > 0 {
            let left = message.body == Body::Left;
            self.sessions.end(slot);
            let agent = self.agents[host as usize];
            if from_agent && !left && (agent.session, agent.life) == (session, life) {
                self.connect(host, ground);
            }
            return;
        }
        let broker = ground.broker();
        let (from, to) = if from_agent { (host, broker) } else { (broker, host) };
        let wait = RETRANSMIT_US.max(4 * ground.net.delay_us(host, broker)) << message.tries.min(3);
        message.tries += 1;
        ground.after(wait, Happening::Message(slot, serial, Step::Sent));
        ground.send(from, to, Happening::Message(slot, serial, Step::Arrives));
    }

    fn arrives(&mut self, slot: u32, serial: u32, ground: &mut Ground<Happening>) {
        let Some(message) = self.sessions.get(slot, serial) else { return };
        let (post, body) = (message.post, message.body);
        let first = !std::mem::replace(&mut message.delivered, true);
        let broker = ground.broker();
        let (from, to) = if post.from_agent { (broker, post.host) } else { (post.host, broker) };
        let begins = matches!(body, Body::Up { .. });
        if post.from_agent && !begins && self.sessions.at_broker[post.host as usize].is_none() {
            // A stateless reset: the agent begins a session anew.
            let reset = Happening::Reset { host: post.host, session: post.session, life: post.life };
            return ground.send(from, to, reset);
        }
        ground.send(from, to, Happening::Message(slot, serial, Step::Acknowledged));
        if post.from_agent {
            self.sessions.heard[post.host as usize] = ground.now;
        }
        match first {
            true if post.from_agent => self.hear(&post, body, ground),
            true => self.told(post.host, body, ground),
            false => {}
        }
    }

    /// The broker's timer for a session in which nothing is heard.
    pub(crate) fn idle(&mut self, host: u32, session: u64, ground: &mut Ground<Happening>) {
        let over = self.sessions.heard[host as usize] + IDLE_US;
        let newest = self.sessions.at_broker[host as usize];
        if newest == Some(session) && over > ground.now {
            return ground.after(over - ground.now, Happening::Idle { host, session });
        }
        if newest == Some(session) {
            self.sessions.at_broker[host as usize] = None;
        }
        self.lost(host, session, ground);
    }

    /// An agent learns that the broker does not know its session.
    pub(crate) fn reset(&mut self, host: u32, session: u64, life: u32, ground: &mut Ground<Happening>) {
        let agent = self.agents[host as usize];
        if (agent.session, agent.life) == (session, life) && ground.hosts[host as usize].has_agent() {
            self.connect(host, ground);
        }
    }
}
