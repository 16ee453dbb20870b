//! Who is above capacity although another mirror nearby has room.

use super::World;

/// Users may be sent to a mirror that is so near to them, in milliseconds.
const NEAR_MS: f32 = 50.0;

impl World {
    /// Mirrors that hold more than they can carry while one within 50 ms of some of their users could take
    /// those as well.
    pub fn overloaded(&self) -> Vec<usize> {
        let over = |m: &usize| self.up(*m) && self.connections[*m] > self.capacity(*m);
        (0..self.connections.len()).filter(|m| over(m) && self.relief(*m)).collect()
    }

    /// Whether anyone is above its capacity, whatever others have.
    pub fn worst(&self) -> f64 {
        let up = (0..self.connections.len()).filter(|m| self.up(*m));
        up.map(|m| self.connections[m] / self.capacity(m)).fold(0.0, f64::max)
    }

    fn relief(&self, m: usize) -> bool {
        self.parts.iter().any(|part| {
            let Some((_, users)) = part.users.iter().find(|u| usize::from(u.0) == m) else { return false };
            let takes = |o: &usize| {
                *o != m
                    && self.up(*o)
                    && part.rtt[*o] <= NEAR_MS
                    && self.connections[*o] + users <= self.capacity(*o)
            };
            (0..self.connections.len()).any(|o| takes(&o))
        })
    }
}
