//! Server cookies as published in RFC 9018, and everything that makes one invalid.

use super::*;
use proptest::prelude::*;

const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

fn hex<const N: usize>(text: &str) -> [u8; N] {
    let bytes: Vec<u8> = (0..N).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect();
    assert_eq!(text.len(), 2 * N);
    bytes.try_into().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(seconds: u64) -> UnixMillis {
    UnixMillis(seconds * 1000)
}

/// RFC 9018, appendix A: secret, client's cookie, address, time, server cookie.
#[test]
fn cookies_are_as_published() {
    let v6 = "2001:db8:220:1:59de:d0f4:8769:82b8";
    let table = [
        (SECRET, "2464c4abcf10c957", "198.51.100.100", 1_559_731_985, "010000005cf79f111f8130c3eee29480"),
        (SECRET, "2464c4abcf10c957", "198.51.100.100", 1_559_734_385, "010000005cf7a871d4a564a1442aca77"),
        (SECRET, "fc93fc62807ddb86", "203.0.113.203", 1_559_734_700, "010000005cf7a9acf73a7810aca2381e"),
        (
            "dd3bdf9344b678b185a6f5cb60fca715",
            "22681ab97d52c298",
            v6,
            1_559_741_817,
            "010000005cf7c57926556bd0934c72f8",
        ),
        (
            "445536bcd2513298075a5d379663c962",
            "22681ab97d52c298",
            v6,
            1_559_741_961,
            "010000005cf7c609a6bb79d16625507a",
        ),
    ];
    for (secret, client, source, now, server) in table {
        assert_eq!(made_with(&hex(secret), hex(client), now, ip(source)), hex(server), "{server}");
    }
}

/// RFC 9018, appendix A.3: reserved bytes are part of what is hashed.
#[test]
fn reserved_bytes_are_hashed_as_they_came() {
    let hash = hashed(
        &hex(SECRET),
        hex("fc93fc62807ddb86"),
        [1, 0xab, 0xcd, 0xef],
        0x5cf7_8f71,
        ip("203.0.113.203"),
    );
    assert_eq!(hash.to_le_bytes(), hex("a314227b6679ebf5"));
}

const NOW: u64 = 1_790_000_000;

fn key() -> CookieKey {
    CookieKey::new([7; 16])
}

fn given(source: &str, now: u64) -> Cookie {
    let client = *b"a client";
    Cookie { client, server: ServerPart::Whole(key().server_cookie(client, now as u32, ip(source))) }
}

#[test]
fn lengths_besides_8_and_16_to_40_are_refused() {
    for length in 0..60 {
        let parsed = Cookie::parse(&vec![1; length], 50);
        match length {
            8 => assert_eq!(parsed.unwrap().server, ServerPart::Absent),
            24 => assert_eq!(parsed.unwrap().server, ServerPart::Whole([1; 16])),
            16..=40 => assert_eq!(parsed.unwrap().server, ServerPart::Foreign),
            _ => assert_eq!(parsed, Err(ErrorKind::CookieLength.at(50)), "{length}"),
        }
    }
}

#[test]
fn a_cookie_is_valid_for_an_hour_and_renewed_after_half_of_it() {
    let source = "198.51.100.7";
    let cookie = given(source, NOW);
    for (later, state, renewed) in [
        (-301, CookieState::Bad, true),
        (-300, CookieState::Valid, false),
        (0, CookieState::Valid, false),
        (1800, CookieState::Valid, false),
        (1801, CookieState::Valid, true),
        (3600, CookieState::Valid, true),
        (3601, CookieState::Bad, true),
    ] {
        let now = at(NOW.checked_add_signed(later).unwrap());
        let (found, reply) = key().check(&cookie, ip(source), now);
        assert_eq!(found, state, "after {later} s");
        let ServerPart::Whole(old) = cookie.server else { unreachable!() };
        assert_eq!(reply[..8], cookie.client);
        assert_eq!(reply[8..] != old, renewed, "after {later} s");
        let again = Cookie::parse(&reply, 0).unwrap();
        assert_eq!(key().check(&again, ip(source), now).0, CookieState::Valid, "what a reply gives is valid");
    }
}

#[test]
fn secrets_differ_by_day_and_cookies_outlive_midnight() {
    let (day, source) = (u64::from(PERIOD), "2001:db8::1");
    let midnight = NOW / day * day;
    let [before, after] = [midnight - 1, midnight].map(|t| key().secret(t as u32));
    assert_ne!(before, after);
    assert_eq!(after, key().secret((midnight + day - 1) as u32));
    let cookie = given(source, midnight - 1);
    assert_eq!(key().check(&cookie, ip(source), at(midnight + 60)).0, CookieState::Valid);
    assert_ne!(CookieKey::new([8; 16]).secret(midnight as u32), after);
}

#[test]
fn a_cookie_of_another_source_key_or_version_is_bad() {
    let cookie = given("198.51.100.7", NOW);
    let state = |key: CookieKey, cookie: &Cookie, source| key.check(cookie, ip(source), at(NOW)).0;
    assert_eq!(state(key(), &cookie, "198.51.100.7"), CookieState::Valid);
    assert_eq!(state(key(), &cookie, "::ffff:198.51.100.7"), CookieState::Valid, "the same address");
    assert_eq!(state(key(), &cookie, "198.51.100.8"), CookieState::Bad);
    assert_eq!(state(CookieKey::new([8; 16]), &cookie, "198.51.100.7"), CookieState::Bad);
    let ServerPart::Whole(mut server) = cookie.server else { unreachable!() };
    server[0] = 2;
    let other = Cookie { server: ServerPart::Whole(server), ..cookie };
    assert_eq!(state(key(), &other, "198.51.100.7"), CookieState::Bad);
    let foreign = Cookie { server: ServerPart::Foreign, ..cookie };
    assert_eq!(state(key(), &foreign, "198.51.100.7"), CookieState::Bad);
    let none = Cookie { server: ServerPart::Absent, ..cookie };
    assert_eq!(state(key(), &none, "198.51.100.7"), CookieState::ClientOnly);
}

#[test]
fn the_key_is_not_printed() {
    assert_eq!(format!("{:?}", CookieKey::new([0x5a; 16])), "CookieKey(secret)");
}

#[test]
fn states_are_listed_in_order_and_labels_are_distinct() {
    for (i, state) in CookieState::ALL.iter().enumerate() {
        assert_eq!(*state as usize, i);
        assert_eq!(CookieState::ALL.iter().filter(|s| s.as_str() == state.as_str()).count(), 1);
    }
}

proptest! {
    #[test]
    fn one_changed_bit_makes_a_cookie_bad(bit in 0usize..192, source: u32) {
        let source = IpAddr::from(source.to_be_bytes());
        let client = *b"a client";
        let mut whole = join(client, key().server_cookie(client, NOW as u32, source));
        prop_assert_eq!(key().check(&Cookie::parse(&whole, 0).unwrap(), source, at(NOW)).0, CookieState::Valid);
        whole[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(key().check(&Cookie::parse(&whole, 0).unwrap(), source, at(NOW)).0, CookieState::Bad);
    }
}
