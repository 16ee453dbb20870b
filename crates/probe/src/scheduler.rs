//! Runs named checks for as long as they are wanted.
//!
//! Each check has a task of its own, so a slow one delays no other, and the task awaits each result
//! before it looks at the next start, so a check never overlaps itself. Starts are an interval
//! apart, give or take [`JITTER_PERCENT`] %, so that checks of one service by many do not fall into
//! step; a check that took longer than its interval starts again at once. When many checks are set at
//! once their first starts are spread over [`Spread`].
//!
//! Every task keeps its [`CheckStatus`] in a watch channel of one value: there is no queue that
//! could overflow, and a slow reader sees the latest. [`CheckRunner::changes`] wakes when good or
//! bad changed anywhere.
//!
//! [`CheckRunner::find_stuck`] looks for checks that hang, whatever hangs them: it reads what each task
//! noted of itself (its [`Pulse`]) and trusts no task to end. Whoever owns the runner calls it every now
//! and then.

use crate::failure::Failure;
use crate::prober::Prober;
use crate::pulse::{Pulse, Stuck};
use crate::rise_fall::RiseFall;
use crate::spread::{Spread, Start};
use crate::{clock, run_in};
use nearmost_core::check::{CheckOutcome, CheckSpec};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How far a start may lie from its interval, in percent of it.
const JITTER_PERCENT: f64 = 10.0;
/// The shortest time between two starts, whatever the interval says.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// The longest time between two starts.
const MAX_INTERVAL: Duration = Duration::from_secs(86_400);

/// A check with a name of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedCheck {
    /// Unique within a runner.
    pub name: String,
    /// Where the service is; not used by commands.
    pub target: SocketAddr,
    /// What is done, and how often.
    pub spec: CheckSpec,
}

/// What is known of one check.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckStatus {
    /// The check's name.
    pub name: String,
    /// Good, bad, or not known before the first result.
    pub good: Option<bool>,
    /// The latest result.
    pub last: Option<CheckOutcome>,
    /// When `good` last changed.
    pub since: Instant,
    /// How many results like the latest came in a row.
    pub consecutive: u32,
    /// The check hangs: what else is known of it is out of date.
    pub stuck: Option<Stuck>,
}

impl CheckStatus {
    /// Good or bad as things are: a check that hangs proves nothing, and is bad.
    pub fn verdict(&self) -> Option<bool> {
        if self.stuck.is_some() { Some(false) } else { self.good }
    }
}

/// Runs checks until it is shut down or dropped.
pub struct CheckRunner {
    prober: Arc<Prober>,
    rng: StdRng,
    checks: BTreeMap<String, Running>,
    changes: watch::Sender<u64>,
    stop: CancellationToken,
    tasks: TaskTracker,
    looks: Looks,
}

/// When it was last looked for checks that hang. A process that was stopped finds all of them late when it
/// goes on, and blames itself.
struct Looks {
    last: Instant,
    /// No check hangs before.
    trusted: Instant,
}

/// Whoever looks less often was stopped in between.
const STOPPED: Duration = Duration::from_secs(3);
/// How long checks have to go on after that.
const RESUME: Duration = Duration::from_secs(1);

impl Looks {
    fn new(now: Instant) -> Looks {
        Looks { last: now, trusted: now }
    }

    /// Whether a check that seems to hang does.
    fn trust(&self, now: Instant) -> bool {
        now >= self.trusted && now.saturating_duration_since(self.last) < STOPPED
    }

    fn look(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last) >= STOPPED {
            self.trusted = now + RESUME;
        }
        self.last = now;
    }
}

/// One check's task, seen from outside.
struct Running {
    check: NamedCheck,
    status: watch::Receiver<CheckStatus>,
    pulse: Arc<Pulse>,
    /// It was found to hang.
    stuck: bool,
    trigger: Arc<Notify>,
    stop: CancellationToken,
}

impl CheckRunner {
    /// A runner without checks; `seed` is the randomness of its jitter. Stops when `stop` is
    /// cancelled.
    pub fn new(prober: Arc<Prober>, seed: u64, stop: &CancellationToken) -> Self {
        CheckRunner {
            prober,
            rng: StdRng::seed_from_u64(seed),
            checks: BTreeMap::new(),
            changes: watch::Sender::new(0),
            stop: stop.child_token(),
            tasks: TaskTracker::new(),
            looks: Looks::new(clock::now()),
        }
    }

    /// Makes `wanted` the checks that run: those that run already with the same settings go on
    /// undisturbed and keep what is known of them, others are stopped or started. Of two with one
    /// name the later wins. Must be called within a tokio runtime.
    pub fn set(&mut self, wanted: Vec<NamedCheck>) {
        let mut old = std::mem::take(&mut self.checks);
        let is_new =
            |check: &&NamedCheck| old.get(&check.name).is_none_or(|running| running.check != **check);
        let mut spread = Spread::of(wanted.iter().filter(is_new).count());
        for check in wanted {
            let running = match old.remove(&check.name) {
                Some(running) if running.check == check => running,
                replaced => {
                    replaced.inspect(Running::halt);
                    let start = spread.next(check.spec.interval, self.rng.random());
                    self.start(check, start)
                }
            };
            if let Some(twin) = self.checks.insert(running.check.name.clone(), running) {
                twin.halt();
            }
        }
        old.values().for_each(Running::halt);
        self.changes.send_modify(|version| *version += 1);
    }

    fn start(&mut self, check: NamedCheck, start: Start) -> Running {
        let now = clock::now();
        let unknown = CheckStatus {
            name: check.name.clone(),
            good: None,
            last: None,
            since: now,
            consecutive: 0,
            stuck: None,
        };
        let (sender, status) = watch::channel(unknown);
        let pulse = Arc::new(Pulse::due(now + start.first));
        let trigger = Arc::new(Notify::new());
        let stop = self.stop.child_token();
        let task = Task {
            prober: Arc::clone(&self.prober),
            rise_fall: RiseFall::new(check.spec.rise, check.spec.fall),
            check: check.clone(),
            rng: StdRng::seed_from_u64(self.rng.random()),
            status: sender,
            pulse: Arc::clone(&pulse),
            changes: self.changes.clone(),
            trigger: Arc::clone(&trigger),
        };
        let stopped = stop.clone();
        // A check that is cut off ends with everything it started; see `run`.
        self.tasks.spawn(async move { stopped.run_until_cancelled(task.run(now, start)).await });
        Running { check, status, pulse, stuck: false, trigger, stop }
    }

    /// Finds checks that hang, and those that no longer do; how many hang now. Either wakes
    /// [`CheckRunner::changes`].
    pub fn find_stuck(&mut self) -> usize {
        let now = clock::now();
        self.looks.look(now);
        let trust = self.looks.trust(now);
        let mut changed = false;
        for running in self.checks.values_mut() {
            let (check, found) = (&running.check.name, running.stuck(now).filter(|_| trust));
            if running.stuck != found.is_some() {
                running.stuck = found.is_some();
                changed = true;
                match found {
                    Some(how) => tracing::error!(check, "{how}"),
                    None => tracing::warn!(check, "no longer stuck"),
                }
            }
        }
        if changed {
            self.changes.send_modify(|version| *version += 1);
        }
        self.checks.values().filter(|c| c.stuck).count()
    }

    /// What is known of every check, by name.
    pub fn statuses(&self) -> Vec<CheckStatus> {
        let now = clock::now();
        let trust = self.looks.trust(now);
        let status =
            |c: &Running| CheckStatus { stuck: c.stuck(now).filter(|_| trust), ..c.status.borrow().clone() };
        self.checks.values().map(status).collect()
    }

    /// Follows one check; every result is a change. A check that hangs has none, and is not seen to hang
    /// here.
    pub fn watch(&self, name: &str) -> Option<watch::Receiver<CheckStatus>> {
        self.checks.get(name).map(|c| c.status.clone())
    }

    /// Wakes whenever a check became good or bad, or the set of checks changed; the number grows.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Starts a check now instead of at its next time; one that is under way runs again when it
    /// ends. Whether there is a check of that name.
    pub fn run_now(&self, name: &str) -> bool {
        let check = self.checks.get(name);
        if let Some(check) = check {
            check.trigger.notify_one();
        }
        check.is_some()
    }

    /// Stops every check and waits until all have ended.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for CheckRunner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Running {
    fn stuck(&self, now: Instant) -> Option<Stuck> {
        self.pulse.stuck(now, &self.check.spec)
    }

    fn halt(&self) {
        self.stop.cancel();
    }
}

/// One check's task.
struct Task {
    prober: Arc<Prober>,
    rise_fall: RiseFall,
    check: NamedCheck,
    rng: StdRng,
    status: watch::Sender<CheckStatus>,
    pulse: Arc<Pulse>,
    changes: watch::Sender<u64>,
    trigger: Arc<Notify>,
}

impl Task {
    async fn run(mut self, set: Instant, start: Start) {
        self.wait_until(set + start.first).await;
        let mut gap = start.second;
        loop {
            // What waits for a slot is not running yet, so that waiting too long shows as such.
            let begun = self.carry_out().await;
            let gap = gap.take().unwrap_or_else(|| jittered(self.check.spec.interval, self.rng.random()));
            self.wait_until(begun + gap).await;
        }
    }

    /// Waits for the time, or for the trigger.
    async fn wait_until(&self, due: Instant) {
        self.pulse.waits(due);
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = self.trigger.notified() => self.pulse.waits(clock::now()),
        }
    }

    /// Carries out the check once; when it began to wait for its slot.
    async fn carry_out(&mut self) -> Instant {
        let begun = clock::now();
        let spec = &self.check.spec;
        let outcome = match self.prober.slot(&spec.kind).await {
            Err(refused) => Failure::silence(refused).outcome(),
            Ok(slot) => {
                self.pulse.runs(clock::now());
                run_in(&slot, &self.prober, self.check.target, &spec.kind, spec.timeout).await
            }
        };
        self.take(outcome);
        begun
    }

    fn take(&mut self, outcome: CheckOutcome) {
        let changed = self.rise_fall.on(outcome.passed());
        let (good, consecutive) = (self.rise_fall.good(), self.rise_fall.consecutive());
        self.status.send_modify(|status| {
            status.good = good;
            status.consecutive = consecutive;
            status.last = Some(outcome);
            if changed {
                status.since = clock::now();
            }
        });
        if changed {
            self.changes.send_modify(|version| *version += 1);
        }
    }
}

/// An interval moved by up to [`JITTER_PERCENT`] % either way; `uniform` lies in `0..1`.
fn jittered(interval: Duration, uniform: f64) -> Duration {
    let factor = 1.0 + (2.0 * uniform - 1.0) * JITTER_PERCENT / 100.0;
    interval.clamp(MIN_INTERVAL, MAX_INTERVAL).mul_f64(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProberOptions;
    use nearmost_core::check::CheckKind;
    use tokio::sync::Semaphore;

    #[test]
    fn jitter_stays_within_its_percentage() {
        let second = Duration::from_secs(1);
        assert_eq!(jittered(second, 0.0), Duration::from_millis(900));
        assert_eq!(jittered(second, 0.5), second);
        assert_eq!(jittered(second, 1.0), Duration::from_millis(1100));
        assert_eq!(jittered(Duration::ZERO, 0.5), MIN_INTERVAL);
        assert_eq!(jittered(Duration::MAX, 0.5), MAX_INTERVAL);
    }

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn check(kind: CheckKind) -> NamedCheck {
        let spec = CheckSpec { kind, interval: TIMEOUT, timeout: TIMEOUT, rise: 1, fall: 1 };
        NamedCheck { name: "web".into(), target: SocketAddr::from(([127, 0, 0, 1], 9)), spec }
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_ignores_its_deadline_is_found_and_forgiven() {
        let mut prober = Prober::new(ProberOptions::default()).expect("a prober");
        prober.hangs = Some(Semaphore::new(0));
        let prober = Arc::new(prober);
        let mut runner = CheckRunner::new(Arc::clone(&prober), 7, &CancellationToken::new());
        runner.set(vec![check(CheckKind::Tcp)]);
        let mut changes = runner.changes();
        tokio::time::sleep(TIMEOUT * 2).await;
        assert_eq!((runner.find_stuck(), runner.statuses()[0].verdict()), (0, None));
        changes.mark_unchanged();
        tokio::time::sleep(TIMEOUT * 2).await;
        assert_eq!(runner.find_stuck(), 1);
        assert!(changes.has_changed().expect("the runner lives"));
        let status = runner.statuses().remove(0);
        assert_eq!((status.good, status.verdict()), (None, Some(false)));
        assert_eq!(status.stuck, Some(Stuck::Running(TIMEOUT * 4)));
        // Told once.
        changes.mark_unchanged();
        assert_eq!((runner.find_stuck(), changes.has_changed().expect("the runner lives")), (1, false));
        prober.hangs.iter().for_each(|hangs| hangs.add_permits(1000));
        let mut watch = runner.watch("web").expect("runs");
        watch.wait_for(|s| s.last.is_some()).await.expect("a result");
        assert_eq!((runner.find_stuck(), runner.statuses()[0].stuck), (0, None));
        assert!(changes.has_changed().expect("the runner lives"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_whose_task_is_gone_is_found() {
        let prober = Prober::new(ProberOptions::default()).expect("a prober");
        let mut runner = CheckRunner::new(Arc::new(prober), 7, &CancellationToken::new());
        runner.set(vec![check(CheckKind::Tcp)]);
        // As if it had panicked: nobody told the runner.
        runner.checks.values().for_each(Running::halt);
        for _ in 0..3 {
            tokio::time::sleep(TIMEOUT).await;
            runner.find_stuck();
        }
        tokio::time::sleep(TIMEOUT).await;
        assert_eq!(runner.find_stuck(), 1);
        assert!(matches!(runner.statuses()[0].stuck, Some(Stuck::NotStarted(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_stopped_blames_no_check_until_checks_had_time() {
        let prober = Prober::new(ProberOptions::default()).expect("a prober");
        let mut runner = CheckRunner::new(Arc::new(prober), 7, &CancellationToken::new());
        runner.set(vec![check(CheckKind::Tcp)]);
        runner.checks.values().for_each(Running::halt);
        tokio::time::sleep(TIMEOUT * 6).await;
        assert_eq!(runner.statuses()[0].stuck, None, "nobody looked for long");
        assert_eq!(runner.find_stuck(), 0);
        tokio::time::sleep(TIMEOUT / 2).await;
        assert_eq!((runner.find_stuck(), runner.statuses()[0].stuck), (0, None));
        tokio::time::sleep(TIMEOUT).await;
        assert_eq!(runner.find_stuck(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn many_checks_do_not_start_together() {
        let mut prober = Prober::new(ProberOptions::default()).expect("a prober");
        prober.hangs = Some(Semaphore::new(0));
        let prober = Arc::new(prober);
        let mut runner = CheckRunner::new(Arc::clone(&prober), 7, &CancellationToken::new());
        runner.set((0..100).map(|i| NamedCheck { name: i.to_string(), ..check(CheckKind::Tcp) }).collect());
        tokio::time::sleep(TIMEOUT / 2).await;
        let now = clock::now();
        let started = runner.checks.values().filter(|c| c.pulse.runs_at(now)).count();
        assert!((40..=65).contains(&started), "{started}");
        tokio::time::sleep(TIMEOUT).await;
        let now = clock::now();
        assert!(runner.checks.values().all(|c| c.pulse.runs_at(now)));
    }
}
