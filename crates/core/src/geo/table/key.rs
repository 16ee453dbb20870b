//! Addresses as numbers: what the two families' tables need of `u32` and `u128`.

/// An address as a number of its family's width.
pub(crate) trait Key: Copy + Ord {
    /// The first address.
    const ZERO: Self;
    /// How it stands beside the number of an entry: aligned like that, so that nothing is left empty.
    type Packed: Copy + std::fmt::Debug;

    /// As it stands in a table.
    fn pack(self) -> Self::Packed;
    /// Back again.
    fn unpack(packed: Self::Packed) -> Self;

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
    ($int:ty, $words:literal) => {
        impl Key for $int {
            const ZERO: Self = 0;
            type Packed = [u32; $words];

            #[inline]
            fn pack(self) -> Self::Packed {
                // A number's words, the highest first.
                std::array::from_fn(|i| (self >> (32 * ($words - 1 - i))) as u32)
            }
            #[inline]
            fn unpack(packed: Self::Packed) -> Self {
                let words = packed.into_iter().zip((0..$words).rev());
                words.fold(0, |number, (word, at)| number | <$int>::from(word) << (32 * at))
            }
            #[inline]
            fn common_bits(self, other: Self) -> u8 {
                // At most 128, which a u8 holds.
                (self ^ other).leading_zeros() as u8
            }
            #[inline]
            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }
            #[inline]
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            #[inline]
            fn top(self, bits: u32) -> usize {
                (self >> (<$int>::BITS - bits)) as usize
            }
            #[inline]
            fn from_top(top: u32, bits: u32) -> Self {
                <$int>::from(top) << (<$int>::BITS - bits)
            }
        }
    };
}

key!(u32, 1);
key!(u128, 4);
