//! Writes small databases of the MaxMind DB format 2.0, for tests.

use ipnet::IpNet;
use std::net::IpAddr;

/// A value of a record.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Map(Vec<(&'static str, Value)>),
    Array(Vec<Value>),
    Text(&'static str),
    Double(f64),
    Float(f32),
    U16(u16),
    U32(u32),
    U64(u64),
    I32(i32),
    Bool(bool),
}

/// A database to be written.
#[derive(Clone, Debug)]
pub(super) struct TestDatabase {
    pub database_type: &'static str,
    /// 4 or 6.
    pub ip_version: u16,
    /// 24, 28 or 32 bits.
    pub record_size: u16,
    /// ip-location-db writes none.
    pub described: bool,
    /// Disjoint networks and their records.
    pub networks: Vec<(IpNet, Value)>,
}

impl TestDatabase {
    /// IPv6 and IPv4, 24-bit records.
    pub fn new(database_type: &'static str, networks: &[(&str, Value)]) -> Self {
        let networks = networks.iter().map(|(net, value)| (net.parse().unwrap(), value.clone()));
        TestDatabase {
            database_type,
            ip_version: 6,
            record_size: 24,
            described: true,
            networks: networks.collect(),
        }
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let mut tree = Tree { nodes: vec![[Slot::Empty; 2]] };
        for (net, value) in &self.networks {
            let offset = data.len();
            encode(value, &mut data);
            tree.insert(&self.path(*net), Slot::Data(offset));
        }
        let mut out = tree.bytes(self.record_size);
        out.extend([0; 16]);
        out.extend(data);
        out.extend(b"\xab\xcd\xefMaxMind.com");
        encode(&self.metadata(tree.nodes.len()), &mut out);
        out
    }

    fn path(&self, net: IpNet) -> Vec<bool> {
        let bits = |bytes: &[u8]| -> Vec<bool> {
            bytes.iter().flat_map(|b| (0..8).map(move |i| b >> (7 - i) & 1 == 1)).collect()
        };
        let len = usize::from(net.prefix_len());
        match (net.network(), self.ip_version) {
            (IpAddr::V4(addr), 4) => bits(&addr.octets())[..len].to_vec(),
            // IPv4 lives at ::/96 of an IPv6 tree.
            (IpAddr::V4(addr), _) => [&[false; 96], &bits(&addr.octets())[..len]].concat(),
            (IpAddr::V6(addr), _) => bits(&addr.octets())[..len].to_vec(),
        }
    }

    fn metadata(&self, nodes: usize) -> Value {
        let described = if self.described { vec![("en", Value::Text("for tests"))] } else { Vec::new() };
        Value::Map(vec![
            ("binary_format_major_version", Value::U16(2)),
            ("binary_format_minor_version", Value::U16(0)),
            ("build_epoch", Value::U64(1_700_000_000)),
            ("database_type", Value::Text(self.database_type)),
            ("description", Value::Map(described)),
            ("ip_version", Value::U16(self.ip_version)),
            ("languages", Value::Array(vec![Value::Text("en")])),
            ("node_count", Value::U32(nodes as u32)),
            ("record_size", Value::U16(self.record_size)),
        ])
    }
}

#[derive(Clone, Copy)]
enum Slot {
    Empty,
    Node(usize),
    Data(usize),
}

struct Tree {
    nodes: Vec<[Slot; 2]>,
}

impl Tree {
    fn insert(&mut self, path: &[bool], value: Slot) {
        let (last, way) = path.split_last().expect("a prefix of at least one bit");
        let mut at = 0;
        for bit in way {
            at = match self.nodes[at][usize::from(*bit)] {
                Slot::Node(next) => next,
                Slot::Empty => {
                    self.nodes.push([Slot::Empty; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[at][usize::from(*bit)] = Slot::Node(next);
                    next
                }
                Slot::Data(_) => panic!("networks of a test database overlap"),
            };
        }
        self.nodes[at][usize::from(*last)] = value;
    }

    fn bytes(&self, record_size: u16) -> Vec<u8> {
        let count = self.nodes.len();
        let number = |slot: Slot| match slot {
            Slot::Empty => count as u32,
            Slot::Node(at) => at as u32,
            Slot::Data(offset) => (count + 16 + offset) as u32,
        };
        let mut out = Vec::new();
        for [left, right] in &self.nodes {
            let (l, r) = (number(*left).to_be_bytes(), number(*right).to_be_bytes());
            match record_size {
                24 => out.extend([&l[1..], &r[1..]].concat()),
                28 => out.extend([&l[1..], &[l[0] << 4 | r[0]], &r[1..]].concat()),
                32 => out.extend([l, r].concat()),
                other => panic!("no records of {other} bits"),
            }
        }
        out
    }
}

/// The control byte of a value, with the extended type and size bytes where they are needed.
fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (low, more): (u8, Vec<u8>) = match size {
        0..29 => (size as u8, Vec::new()),
        29..285 => (29, vec![(size - 29) as u8]),
        _ => (30, ((size - 285) as u16).to_be_bytes().to_vec()),
    };
    if kind < 8 {
        out.push(kind << 5 | low);
    } else {
        out.extend([low, kind - 7]);
    }
    out.extend(more);
}

fn encode_text(text: &str, out: &mut Vec<u8>) {
    control(2, text.len(), out);
    out.extend(text.as_bytes());
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    let fixed = |kind: u8, bytes: &[u8], out: &mut Vec<u8>| {
        control(kind, bytes.len(), out);
        out.extend(bytes);
    };
    match value {
        Value::Text(text) => encode_text(text, out),
        Value::Double(x) => fixed(3, &x.to_be_bytes(), out),
        Value::U16(x) => fixed(5, &x.to_be_bytes(), out),
        Value::U32(x) => fixed(6, &x.to_be_bytes(), out),
        Value::Map(entries) => {
            control(7, entries.len(), out);
            for (key, value) in entries {
                encode_text(key, out);
                encode(value, out);
            }
        }
        Value::I32(x) => fixed(8, &x.to_be_bytes(), out),
        Value::U64(x) => fixed(9, &x.to_be_bytes(), out),
        Value::Array(values) => {
            control(11, values.len(), out);
            values.iter().for_each(|value| encode(value, out));
        }
        Value::Bool(x) => control(14, usize::from(*x), out),
        Value::Float(x) => fixed(15, &x.to_be_bytes(), out),
    }
}

/// A map of text to values.
pub(super) fn map<const N: usize>(entries: [(&'static str, Value); N]) -> Value {
    Value::Map(entries.to_vec())
}

/// A record of MaxMind's and DB-IP's city databases.
pub(super) fn nested_city(country: &'static str, lat: f64, lon: f64) -> Value {
    map([
        ("city", map([("names", map([("en", Value::Text("somewhere"))]))])),
        ("country", map([("iso_code", Value::Text(country)), ("geoname_id", Value::U32(1))])),
        ("location", map([("latitude", Value::Double(lat)), ("longitude", Value::Double(lon))])),
    ])
}
