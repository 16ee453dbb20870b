//! Addresses as numbers: what the two families' tables need of `u32` and `u128`.

/// An address as a number of its family's width.
pub(crate) trait Key: Copy + Ord {
    /// The first address.
    const ZERO: Self;

    /// Leading bits that two addresses share, at most the width less one for different addresses.
    fn common_bits(self, other: Self) -> u8;
    /// The address before; `None` for the first.
    fn previous(self) -> Option<Self>;
    /// The address after; `None` for the last.
    fn next(self) -> Option<Self>;
    /// The highest `bits` bits, 1 to 32 of them.
    fn top(self, bits: u32) -> usize;
    /// The first address with these highest `bits` bits.
    fn from_top(top: u32, bits: u32) -> Self;
}

macro_rules! key {
    ($int:ty) => {
        impl Key for $int {
            const ZERO: Self = 0;

            fn common_bits(self, other: Self) -> u8 {
                // At most 128, which a u8 holds.
                (self ^ other).leading_zeros() as u8
            }
            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            fn top(self, bits: u32) -> usize {
                (self >> (<$int>::BITS - bits)) as usize
            }
            fn from_top(top: u32, bits: u32) -> Self {
                <$int>::from(top) << (<$int>::BITS - bits)
            }
        }
    };
}

key!(u32);
key!(u128);
