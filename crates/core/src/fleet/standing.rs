//! What people ordered of one mirror, as the fleet last acted on it.

use crate::health::machine::Input;
use crate::registry::{Force, ForcedTo, Mirror, Node, Orders};
use crate::time::{Now, UnixMillis};

/// How soon before a window the answer counts as about to change.
const WINDOW_AHEAD_MS: u64 = 60_000;

/// What was ordered, and what of it is in force.
#[derive(Debug, Default)]
pub(super) struct Standing {
    orders: Orders,
    revoked: bool,
    drained: bool,
    maintained: bool,
    force: Option<Force>,
}

impl Standing {
    /// Follows the registry; the inputs that this amounts to.
    pub fn follow(&mut self, mirror: &Mirror, node: Option<&Node>, now: Now) -> Vec<Input> {
        let mut inputs = Vec::new();
        let revoked = node.is_some_and(|n| n.revoked);
        if std::mem::replace(&mut self.revoked, revoked) != revoked {
            inputs.push(if revoked { Input::Revoked } else { Input::Reinstated });
        }
        let drained = mirror.orders.drained;
        if std::mem::replace(&mut self.drained, drained) != drained {
            inputs.push(if drained { Input::OrderDrain } else { Input::OrderUndrain });
        }
        if mirror.orders.released > self.orders.released {
            inputs.push(Input::Release);
        }
        self.orders = mirror.orders.clone();
        let force = self.orders.force.filter(|force| force.until > now.unix);
        if std::mem::replace(&mut self.force, force) != force {
            inputs.push(match force.map(|f| f.to) {
                Some(ForcedTo::Up) => Input::ForceUp,
                Some(ForcedTo::Down) => Input::ForceDown,
                Some(ForcedTo::AsItWas) => Input::Freeze,
                None => Input::ForceEnded,
            });
        }
        inputs.extend(self.window(now.unix));
        inputs
    }

    /// What time has brought: a force that is over, a window that began or ended.
    pub fn due(&mut self, now: UnixMillis) -> Vec<Input> {
        let over = self.force.is_some_and(|force| force.until <= now);
        if over {
            self.force = None;
        }
        over.then_some(Input::ForceEnded).into_iter().chain(self.window(now)).collect()
    }

    fn window(&mut self, now: UnixMillis) -> Option<Input> {
        let open = self.orders.in_window(now);
        let changed = std::mem::replace(&mut self.maintained, open) != open;
        changed.then_some(if open { Input::MaintenanceBegan } else { Input::MaintenanceEnded })
    }

    /// When time brings something next.
    pub fn deadline(&self, now: UnixMillis) -> Option<UnixMillis> {
        let force = self.force.map(|f| f.until);
        [force, self.orders.next_window(now)].into_iter().flatten().min()
    }

    /// Whether a window or a force begins or ends within the time that answers are kept.
    pub fn about_to_change(&self, now: UnixMillis) -> bool {
        self.deadline(now).is_some_and(|at| at.0.saturating_sub(now.0) <= WINDOW_AHEAD_MS)
    }

    /// When a person last let it back.
    pub fn released(&self) -> Option<UnixMillis> {
        self.orders.released
    }
}
