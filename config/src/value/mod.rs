//! Values as they stand in a file, checked while serde reads them: what is wrong is then reported
//! with its path and origin like a wrong type.
//!
//! [`Plain`] takes the checked value out; [`set`] puts it over a default.

mod naming;
mod text;

pub(crate) use naming::*;
pub(crate) use text::*;

use serde::de::{self, Deserialize, Deserializer, Expected, SeqAccess, Unexpected, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A value of the file that stands for a plain value.
pub(crate) trait Plain {
    /// The plain type.
    type Value;
    /// The plain value.
    fn plain(self) -> Self::Value;
}

/// Puts a given value over a default.
pub(crate) fn set<P: Plain>(slot: &mut P::Value, given: Option<P>) {
    if let Some(value) = given {
        *slot = value.plain();
    }
}

impl Plain for bool {
    type Value = bool;
    fn plain(self) -> bool {
        self
    }
}

impl Plain for String {
    type Value = String;
    fn plain(self) -> String {
        self
    }
}

impl<P: Plain> Plain for Vec<P> {
    type Value = Vec<P::Value>;
    fn plain(self) -> Self::Value {
        self.into_iter().map(Plain::plain).collect()
    }
}

/// A whole number from `MIN` to `MAX`, held as `T`.
#[derive(Clone, Copy)]
pub(crate) struct Number<T, const MIN: u64, const MAX: u64 = { u32::MAX as u64 }>(T);

/// A port that can be connected to.
pub(crate) type Port = Number<u16, 1, 65_535>;

impl<T, const MIN: u64, const MAX: u64> Plain for Number<T, MIN, MAX> {
    type Value = T;
    fn plain(self) -> T {
        self.0
    }
}

impl<'de, T: TryFrom<u64>, const MIN: u64, const MAX: u64> Deserialize<'de> for Number<T, MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(NumberVisitor::<T, MIN, MAX>(PhantomData)).map(Number)
    }
}

struct NumberVisitor<T, const MIN: u64, const MAX: u64>(PhantomData<T>);

impl<T: TryFrom<u64>, const MIN: u64, const MAX: u64> Visitor<'_> for NumberVisitor<T, MIN, MAX> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (MIN, MAX) {
            // Nobody meets the limit of 32 bits by accident.
            (0, 0xffff_ffff) => f.write_str("a whole number"),
            (_, 0xffff_ffff) => write!(f, "a whole number of at least {MIN}"),
            _ => write!(f, "a whole number from {MIN} to {MAX}"),
        }
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        let wrong = || E::invalid_value(Unexpected::Unsigned(number), &self);
        match (MIN..=MAX).contains(&number) {
            true => T::try_from(number).map_err(|_| wrong()),
            false => Err(wrong()),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }
}

/// A time in milliseconds, up to a day.
#[derive(Clone, Copy, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Millis<const MIN: u64 = 1>(Number<u64, MIN, 86_400_000>);

impl<const MIN: u64> Plain for Millis<MIN> {
    type Value = Duration;
    fn plain(self) -> Duration {
        Duration::from_millis(self.0.0)
    }
}

/// A time in seconds, up to what a DNS record can say (RFC 2181 section 8) unless `MAX` is less.
#[derive(Clone, Copy, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Seconds<const MAX: u64 = 2_147_483_647>(Number<u64, 1, MAX>);

impl<const MAX: u64> Plain for Seconds<MAX> {
    type Value = Duration;
    fn plain(self) -> Duration {
        Duration::from_secs(self.0.0)
    }
}

/// An angle from −`LIMIT` to `LIMIT` degrees.
#[derive(Clone, Copy)]
pub(crate) struct Degrees<const LIMIT: u8>(f64);

impl<const LIMIT: u8> Plain for Degrees<LIMIT> {
    type Value = f64;
    fn plain(self) -> f64 {
        self.0
    }
}

impl<'de, const LIMIT: u8> Deserialize<'de> for Degrees<LIMIT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_f64(DegreesVisitor::<LIMIT>)
    }
}

struct DegreesVisitor<const LIMIT: u8>;

impl<const LIMIT: u8> Visitor<'_> for DegreesVisitor<LIMIT> {
    type Value = Degrees<LIMIT>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number of degrees from -{LIMIT} to {LIMIT}")
    }

    fn visit_f64<E: de::Error>(self, degrees: f64) -> Result<Self::Value, E> {
        match degrees.abs() <= f64::from(LIMIT) {
            true => Ok(Degrees(degrees)),
            false => Err(E::invalid_value(Unexpected::Float(degrees), &self)),
        }
    }

    fn visit_i64<E: de::Error>(self, degrees: i64) -> Result<Self::Value, E> {
        match i16::try_from(degrees) {
            Ok(small) if small.unsigned_abs() <= u16::from(LIMIT) => Ok(Degrees(f64::from(small))),
            _ => Err(E::invalid_value(Unexpected::Signed(degrees), &self)),
        }
    }

    fn visit_u64<E: de::Error>(self, degrees: u64) -> Result<Self::Value, E> {
        match u8::try_from(degrees) {
            Ok(small) if small <= LIMIT => Ok(Degrees(f64::from(small))),
            _ => Err(E::invalid_value(Unexpected::Unsigned(degrees), &self)),
        }
    }
}

/// A share of a whole, 0 to 1.
#[derive(Clone, Copy)]
pub(crate) struct Share(f64);

impl Plain for Share {
    type Value = f64;
    fn plain(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_f64(ShareVisitor)
    }
}

struct ShareVisitor;

impl Visitor<'_> for ShareVisitor {
    type Value = Share;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share from 0 to 1")
    }

    fn visit_f64<E: de::Error>(self, share: f64) -> Result<Share, E> {
        match (0.0..=1.0).contains(&share) {
            true => Ok(Share(share)),
            false => Err(E::invalid_value(Unexpected::Float(share), &self)),
        }
    }

    fn visit_i64<E: de::Error>(self, share: i64) -> Result<Share, E> {
        match share {
            0 => Ok(Share(0.0)),
            1 => Ok(Share(1.0)),
            _ => Err(E::invalid_value(Unexpected::Signed(share), &self)),
        }
    }

    fn visit_u64<E: de::Error>(self, share: u64) -> Result<Share, E> {
        match share {
            0 => Ok(Share(0.0)),
            1 => Ok(Share(1.0)),
            _ => Err(E::invalid_value(Unexpected::Unsigned(share), &self)),
        }
    }
}

/// Good HTTP status codes: `[200, 399]`, or one code alone.
#[derive(Clone, Copy)]
pub(crate) struct StatusRange(u16, u16);

impl Plain for StatusRange {
    type Value = (u16, u16);
    fn plain(self) -> (u16, u16) {
        (self.0, self.1)
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusVisitor)
    }
}

type StatusCode = Number<u16, 100, 599>;
struct StatusVisitor;

impl<'de> Visitor<'de> for StatusVisitor {
    type Value = StatusRange;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lowest and the highest good status, such as [200, 399]")
    }

    fn visit_u64<E: de::Error>(self, code: u64) -> Result<StatusRange, E> {
        let StatusCode { 0: code } = StatusCode::deserialize(de::value::U64Deserializer::new(code))?;
        Ok(StatusRange(code, code))
    }

    fn visit_i64<E: de::Error>(self, code: i64) -> Result<StatusRange, E> {
        let StatusCode { 0: code } = StatusCode::deserialize(de::value::I64Deserializer::new(code))?;
        Ok(StatusRange(code, code))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<StatusRange, A::Error> {
        let mut codes = Vec::with_capacity(2);
        while let Some(code) = items.next_element::<StatusCode>()? {
            codes.push(code.0);
        }
        match codes[..] {
            [low, high] if low <= high => Ok(StatusRange(low, high)),
            [low, high] => {
                Err(de::Error::invalid_value(Unexpected::Other(&format!("[{low}, {high}]")), &self))
            }
            _ => Err(de::Error::invalid_length(codes.len(), &self)),
        }
    }
}

/// A kind of text with a meaning of its own, such as an address.
pub(crate) trait TextKind {
    /// What the text stands for.
    type Value;
    /// What belongs there, for people.
    const EXPECTED: &'static str;

    /// The meaning of a text; else what was expected, more to the point if possible.
    fn parse(text: &str) -> Parsed<Self::Value>;
}

/// A text's meaning, or what was expected instead of it.
type Parsed<T> = Result<T, Cow<'static, str>>;

/// `Some` as it is, `None` as the kind's usual expectation.
fn or_expected<K: TextKind>(value: Option<K::Value>) -> Parsed<K::Value> {
    value.ok_or(Cow::Borrowed(K::EXPECTED))
}

/// Text of a kind.
pub(crate) struct Text<K: TextKind>(pub(crate) K::Value);

impl<K: TextKind> Plain for Text<K> {
    type Value = K::Value;
    fn plain(self) -> K::Value {
        self.0
    }
}

impl<'de, K: TextKind> Deserialize<'de> for Text<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor::<K>(PhantomData)).map(Text)
    }
}

struct TextVisitor<K>(PhantomData<K>);

impl<K: TextKind> Visitor<'_> for TextVisitor<K> {
    type Value = K::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(K::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<K::Value, E> {
        K::parse(text).map_err(|expected| {
            let expected: &dyn Expected = &&*expected;
            E::invalid_value(Unexpected::Str(text), expected)
        })
    }
}
