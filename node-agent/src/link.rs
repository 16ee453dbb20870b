//! One session with one broker: reports up, orders down.
//!
//! The agent's loop holds the truth in a watch channel ([`Outgoing`]); a session sends it whenever
//! it changes, so a slow broker misses versions in between and never makes a queue. What the broker
//! says goes back to the loop as [`Event`]s.

use crate::dial::{Dialled, LinkError, STEP, dial};
use crate::measure::{self, Measurer};
use crate::metrics::PathMetrics;
use crate::paths::{Reading, Telling};
use crate::sessions::Ticket;
use crate::witness::{self, Witness};
use nearmost_wire::agent::{BeaconGrant, Hello, Report, ServiceReport, ToAgent, ToBroker};
use nearmost_wire::frame;
use nearmost_wire::identity::{Id, KeyPair};
use nearmost_wire::paths::{MAX_ORDERS, Measurement};
use nearmost_wire::standing::{MAX_STANDING_BYTES, Standing, Usage};
use nearmost_wire::witness::{MAX_ORDERS as MAX_WITNESSED, WitnessResult};
use quinn::{RecvStream, SendStream};
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, watch};

/// What sessions tell their brokers.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Grows when `hello` changes: sessions are then replaced.
    pub generation: u64,
    /// How a session begins.
    pub hello: Arc<Hello>,
    /// What is reported; `None` until there is something to say.
    pub report: Option<Arc<ReportBody>>,
}

/// A report without its number, which each session counts for itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportBody {
    /// The agent drains.
    pub draining: bool,
    /// CPU in use on the machine, 0..=1.
    pub cpu: f32,
    /// Memory in use on the machine, 0..=1.
    pub memory: f32,
    /// One entry a service of which every check has had a result.
    pub services: Vec<ServiceReport>,
}

/// What a session tells the agent's loop.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The session is on.
    Attached {
        /// [`Outgoing::generation`] of what it declared.
        generation: u64,
        /// The broker's address as connected to.
        remote: IpAddr,
        /// How to send beacons.
        beacon: BeaconGrant,
        /// Our address as the broker sees it.
        observed: IpAddr,
        /// What is wrong with declared services.
        warnings: Vec<String>,
    },
    /// New beacon key or period.
    Beacon {
        /// The broker's address as connected to.
        remote: IpAddr,
        /// How to send beacons.
        beacon: BeaconGrant,
    },
    /// A report is part of what the broker answers with.
    Acked {
        /// Whether that report, or an earlier one, said that we drain.
        draining: bool,
    },
    /// A report was sent.
    Reported,
    /// What the broker concludes of this node's mirrors.
    Standing(Standing),
    /// How much this node's mirrors are used.
    Usage(Usage),
}

/// How a session ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// We said goodbye.
    Left,
    /// Told to end without a word: a newer session goes on, or is to begin.
    Retired,
}

/// One session to be.
pub struct Link {
    /// The node's key.
    pub key: Arc<KeyPair>,
    /// Whose key must be there.
    pub id: Id,
    /// `host:port`.
    pub address: String,
    /// What to tell.
    pub outgoing: watch::Receiver<Outgoing>,
    /// Round trips to tell, and to measure on order.
    pub paths: Paths,
    /// Takes the broker's orders to probe other nodes' mirrors.
    pub witness: Witness,
    /// Which session this is, and how it and the loop speak.
    pub ticket: Ticket,
}

/// What a session has to do with round trips.
#[derive(Clone)]
pub struct Paths {
    /// What was read off connections; told as it changes.
    pub readings: watch::Receiver<Arc<Reading>>,
    /// Takes the broker's orders.
    pub measurer: Measurer,
    /// Counters.
    pub metrics: PathMetrics,
}

/// What a session says, and has not said yet.
struct Speech {
    outgoing: watch::Receiver<Outgoing>,
    readings: watch::Receiver<Arc<Reading>>,
    answers: mpsc::Receiver<Measurement>,
    witnessed: mpsc::Receiver<WitnessResult>,
    /// The reading that is being told.
    telling: Telling,
    /// Of the last report.
    seq: u64,
}

/// Where what the broker orders goes.
struct Orders {
    measure: measure::Orders,
    witness: witness::Orders,
}

/// What a session says next.
enum Said {
    /// What is reported now.
    Report(Outgoing),
    /// Something else.
    Hint(ToBroker),
    /// That it leaves.
    Goodbye,
}

impl Link {
    /// Connects and speaks until the session ends.
    ///
    /// # Errors
    /// Why there is no session, or no longer.
    pub async fn run(self) -> Result<End, LinkError> {
        let dialled = tokio::select! {
            biased;
            () = self.ticket.leave.cancelled() => return Ok(End::Left),
            () = self.ticket.retire.cancelled() => return Ok(End::Retired),
            dialled = dial(&self.key, self.id, &self.address) => dialled?,
        };
        let session = Session {
            dialled,
            outgoing: self.outgoing,
            paths: self.paths,
            witness: self.witness,
            ticket: self.ticket,
            // No report has said it yet.
            drained_by: AtomicU64::new(u64::MAX),
        };
        session.run().await
    }
}

struct Session {
    dialled: Dialled,
    outgoing: watch::Receiver<Outgoing>,
    paths: Paths,
    witness: Witness,
    ticket: Ticket,
    /// Number of the first report that said that we drain.
    drained_by: AtomicU64,
}

impl Session {
    async fn run(mut self) -> Result<End, LinkError> {
        let opened = self.dialled.connection.open_bi().await;
        let (mut send, mut recv) = opened.map_err(|e| self.dialled.lost(e))?;
        let (generation, hello) = {
            let outgoing = self.outgoing.borrow_and_update();
            (outgoing.generation, Hello::clone(&outgoing.hello))
        };
        self.write(&mut send, &ToBroker::Hello(hello)).await?;
        self.welcomed(&mut recv, generation).await?;
        // The first report goes out at once.
        self.outgoing.mark_changed();
        // So is what is known of round trips already.
        self.paths.readings.mark_changed();
        let broker = self.ticket.session.broker;
        let (measure, answers) = self.paths.measurer.session(broker);
        let (witness, witnessed) = self.witness.session(broker);
        let orders = Orders { measure, witness };
        let speech = Speech {
            outgoing: self.outgoing.clone(),
            readings: self.paths.readings.clone(),
            answers,
            witnessed,
            telling: Telling::default(),
            seq: 0,
        };
        let end = tokio::select! {
            end = self.speak(&mut send, speech, generation) => end?,
            failed = self.listen(&mut recv, &orders) => return Err(failed),
            never = self.learn() => match never {},
            () = self.ticket.retire.cancelled() => End::Retired,
        };
        self.dialled.farewell(send).await;
        Ok(end)
    }

    async fn welcomed(&self, recv: &mut RecvStream, generation: u64) -> Result<(), LinkError> {
        let answer = tokio::time::timeout(STEP, frame::read::<ToAgent>(recv)).await;
        let answer = answer.map_err(|_| self.dialled.slow("welcome"))?;
        match answer.map_err(|e| self.dialled.frame_error(e))? {
            ToAgent::Welcome { beacon, observed, warnings } => {
                let remote = self.remote();
                self.tell(Event::Attached { generation, remote, beacon, observed, warnings }).await;
                Ok(())
            }
            _ => Err(self.dialled.out_of_order("a welcome")),
        }
    }

    /// Sends reports and hints until told to leave. Reports of services that it did not declare are
    /// left to its successor.
    async fn speak(
        &self,
        send: &mut SendStream,
        mut speech: Speech,
        generation: u64,
    ) -> Result<End, LinkError> {
        loop {
            let next = tokio::select! {
                biased;
                () = self.ticket.leave.cancelled() => Said::Goodbye,
                next = speech.next(&self.paths.metrics) => next,
            };
            match next {
                Said::Report(latest) => {
                    if let Some(body) = latest.report.filter(|_| latest.generation == generation) {
                        speech.seq += 1;
                        self.report(send, speech.seq, &body).await?;
                    }
                }
                Said::Hint(message) => self.write(send, &message).await?,
                Said::Goodbye => {
                    self.write(send, &ToBroker::Goodbye).await?;
                    return Ok(End::Left);
                }
            }
        }
    }

    async fn report(&self, send: &mut SendStream, seq: u64, body: &ReportBody) -> Result<(), LinkError> {
        if body.draining {
            self.drained_by.fetch_min(seq, Ordering::Relaxed);
        }
        let report = Report {
            seq,
            draining: body.draining,
            cpu: body.cpu,
            memory: body.memory,
            services: body.services.clone(),
        };
        self.write(send, &ToBroker::Report(report)).await?;
        self.tell(Event::Reported).await;
        Ok(())
    }

    /// Passes on what the broker says, until it says something wrong or nothing more.
    async fn listen(&self, recv: &mut RecvStream, orders: &Orders) -> LinkError {
        loop {
            let event = match frame::read(recv).await {
                Ok(ToAgent::Ack { seq }) => {
                    Event::Acked { draining: seq >= self.drained_by.load(Ordering::Relaxed) }
                }
                Ok(ToAgent::Beacon(beacon)) => Event::Beacon { remote: self.remote(), beacon },
                Ok(ToAgent::Measure { orders: more }) => {
                    orders.measure.take(more);
                    continue;
                }
                Ok(ToAgent::Witness { orders: more }) => {
                    orders.witness.take(more);
                    continue;
                }
                Ok(ToAgent::Joined { .. } | ToAgent::Welcome { .. }) => {
                    return self.dialled.out_of_order("an acknowledgement, a beacon grant or orders");
                }
                Err(frame::FrameError::Ended) => {
                    // The stream's end is soon followed by the connection's, which says why.
                    let closed = self.dialled.connection.closed();
                    return match tokio::time::timeout(STEP, closed).await {
                        Ok(reason) => self.dialled.lost(reason),
                        Err(_) => self.dialled.frame_error(frame::FrameError::Ended),
                    };
                }
                Err(e) => return self.dialled.frame_error(e),
            };
            self.tell(event).await;
        }
    }

    /// Passes on what the broker thinks of this node, if it tells. That is for people: what is wrong with it
    /// ends the telling, and not the session.
    async fn learn(&self) -> Infallible {
        let connection = &self.dialled.connection;
        if let Ok(first) = connection.accept_uni().await {
            let usage = async {
                // Brokers of before this message open no second stream.
                if let Ok(second) = connection.accept_uni().await {
                    self.hear(second, Event::Usage).await;
                }
            };
            tokio::join!(self.hear(first, Event::Standing), usage);
        }
        std::future::pending().await
    }

    /// Passes on what comes on one stream, until it ends or is not understood.
    async fn hear<M: DeserializeOwned>(&self, mut stream: RecvStream, as_event: fn(M) -> Event) {
        loop {
            match frame::read_at_most(&mut stream, MAX_STANDING_BYTES).await {
                Ok(said) => self.tell(as_event(said)).await,
                Err(e) => {
                    tracing::debug!(error = %e, "the broker's word of this node's mirrors is not understood");
                    return;
                }
            }
        }
    }

    /// Writes one message; a broker that does not read is as good as gone.
    async fn write(&self, send: &mut SendStream, message: &ToBroker) -> Result<(), LinkError> {
        let written = tokio::time::timeout(STEP, frame::write(send, message)).await;
        let written = written.map_err(|_| self.dialled.slow("room for a message"))?;
        written.map_err(|e| self.dialled.frame_error(e))
    }

    fn remote(&self) -> IpAddr {
        self.dialled.connection.remote_address().ip().to_canonical()
    }

    async fn tell(&self, event: Event) {
        // Without a loop to listen the session is about to be dropped.
        let _ = self.ticket.events.send((self.ticket.session, event)).await;
    }
}

impl Speech {
    /// What is to be said next: reports, then what somebody waits for, then hints.
    async fn next(&mut self, metrics: &PathMetrics) -> Said {
        let (mut answers, mut witnessed) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                biased;
                changed = self.outgoing.changed() => return match changed {
                    Ok(()) => Said::Report(self.outgoing.borrow_and_update().clone()),
                    Err(_) => Said::Goodbye,
                },
                n = self.witnessed.recv_many(&mut witnessed, MAX_WITNESSED), if !self.witnessed.is_closed() => {
                    if n > 0 {
                        return Said::Hint(ToBroker::Witnessed { results: witnessed });
                    }
                }
                n = self.answers.recv_many(&mut answers, MAX_ORDERS), if !self.answers.is_closed() => {
                    if n > 0 {
                        return Said::Hint(ToBroker::Measured { results: answers });
                    }
                }
                Ok(()) = self.readings.changed() => {
                    let untold = self.telling.left() as u64;
                    metrics.networks_dropped.with_label_values(&["slow"]).inc_by(untold);
                    self.telling = Telling::new(self.readings.borrow_and_update().clone());
                }
                () = std::future::ready(()), if self.telling.left() > 0 => {
                    if let Some(message) = self.telling.next_message() {
                        return Said::Hint(message);
                    }
                }
            }
        }
    }
}
