//! Small databases of the MaxMind DB format 2.0.

/// A value of a record.
enum Value {
    Map(Vec<(&'static str, Value)>),
    Text(&'static str),
    Double(f64),
    U16(u16),
    U32(u32),
    U64(u64),
}

use Value::{Double, Map, Text, U16, U32, U64};

/// Databases of one network, by what they say of it and by the size of a record in bits.
pub(super) fn databases() -> Vec<(String, Vec<u8>)> {
    let city = || {
        Map(vec![
            ("country", Map(vec![("iso_code", Text("GB"))])),
            ("location", Map(vec![("latitude", Double(51.5)), ("longitude", Double(-0.1))])),
        ])
    };
    let flat =
        || Map(vec![("country_code", Text("FR")), ("loc", Text("48.9,2.4")), ("asn", Text("AS64500"))]);
    let number = || Map(vec![("autonomous_system_number", U32(64_500))]);
    let mut all = Vec::new();
    for bits in [24, 28, 32] {
        all.push((format!("city-{bits}"), database(bits, &city())));
    }
    all.push(("flat".into(), database(24, &flat())));
    all.push(("asn".into(), database(24, &number())));
    all
}

/// A database in which half of all addresses have this record.
fn database(bits: u16, record: &Value) -> Vec<u8> {
    // One node: the left half is data, the right half is nothing.
    let (data, nothing) = (1 + 16, 1);
    let mut out = match bits {
        24 => vec![0, 0, data, 0, 0, nothing],
        28 => vec![0, 0, data, 0, 0, 0, nothing],
        _ => vec![0, 0, 0, data, 0, 0, 0, nothing],
    };
    out.extend([0; 16]);
    encode(record, &mut out);
    out.extend(b"\xab\xcd\xefMaxMind.com");
    let metadata = Map(vec![
        ("binary_format_major_version", U16(2)),
        ("binary_format_minor_version", U16(0)),
        ("build_epoch", U64(1_700_000_000)),
        ("database_type", Text("x")),
        ("description", Map(vec![("en", Text("x"))])),
        ("ip_version", U16(4)),
        ("node_count", U32(1)),
        ("record_size", U16(bits)),
    ]);
    encode(&metadata, &mut out);
    out
}

/// A control byte, for kinds above 7 another, and the payload; all are shorter than 29 bytes.
fn encode(value: &Value, out: &mut Vec<u8>) {
    let mut head = |kind: u8, length: usize| match kind {
        8.. => out.extend([length as u8, kind - 7]),
        _ => out.push(kind << 5 | length as u8),
    };
    match value {
        Map(pairs) => {
            head(7, pairs.len());
            for (key, value) in pairs {
                encode(&Text(key), out);
                encode(value, out);
            }
        }
        Text(text) => {
            head(2, text.len());
            out.extend(text.as_bytes());
        }
        Double(number) => {
            head(3, 8);
            out.extend(number.to_be_bytes());
        }
        U16(number) => {
            head(5, 2);
            out.extend(number.to_be_bytes());
        }
        U32(number) => {
            head(6, 4);
            out.extend(number.to_be_bytes());
        }
        U64(number) => {
            head(9, 8);
            out.extend(number.to_be_bytes());
        }
    }
}
