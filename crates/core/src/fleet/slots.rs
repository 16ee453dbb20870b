//! Places that keep their number for as long as their tenant lives.

/// A vector with holes; a number is used again only after its tenant was removed.
pub(super) struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Moves in; the number of the place.
    pub fn insert(&mut self, tenant: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.places[slot as usize] = Some(tenant);
            return slot;
        }
        self.places.push(Some(tenant));
        (self.places.len() - 1) as u32
    }

    /// Moves out.
    pub fn remove(&mut self, slot: u32) -> Option<T> {
        let tenant = self.places.get_mut(slot as usize)?.take();
        if tenant.is_some() {
            self.free.push(slot);
        }
        tenant
    }

    pub fn get(&self, slot: u32) -> Option<&T> {
        self.places.get(slot as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.places.get_mut(slot as usize)?.as_mut()
    }

    /// All tenants, beginning somewhere and going round.
    pub fn from(&self, start: usize) -> impl Iterator<Item = &T> {
        let (before, after) = self.places.split_at(start % self.places.len().max(1));
        after.iter().chain(before).flatten()
    }

    /// The same with their numbers.
    pub fn numbered_from(&self, start: usize) -> impl Iterator<Item = (u32, &T)> {
        let start = start % self.places.len().max(1);
        let all = (start..self.places.len()).chain(0..start);
        all.filter_map(|i| Some((u32::try_from(i).ok()?, self.places.get(i)?.as_ref()?)))
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..).zip(&self.places).filter_map(|(i, t)| Some((i, t.as_ref()?)))
    }
}
