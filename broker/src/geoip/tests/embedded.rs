//! The embedded database: what it says of networks that everybody knows, and that the table says
//! what the database says.

use super::*;
use crate::geoip::load::{EMBEDDED, EMBEDDED_NAME, GeoSettings, compile};
use ipnet::IpNet;
use maxminddb::{Reader, WithinOptions};
use nearmost_core::geo::countries;
use std::collections::{BTreeSet, HashMap};

// One network a line.
#[rustfmt::skip]
const KNOWN: &[(&str, &str, &str)] = &[
    ("129.215.0.0/16", "GB", "University of Edinburgh"),
    ("131.111.0.0/16", "GB", "University of Cambridge"),
    ("212.58.224.0/19", "GB", "BBC"),
    ("193.0.0.0/21", "NL", "RIPE NCC"),
    ("145.18.0.0/16", "NL", "University of Amsterdam"),
    ("129.187.0.0/16", "DE", "Technical University of Munich"),
    ("80.128.0.0/12", "DE", "Deutsche Telekom"),
    ("193.51.0.0/16", "FR", "RENATER"),
    ("82.64.0.0/14", "FR", "Free"),
    ("90.0.0.0/10", "FR", "Orange"),
    ("130.206.0.0/16", "ES", "RedIRIS"),
    ("80.24.0.0/13", "ES", "Telefónica"),
    ("193.206.0.0/16", "IT", "GARR"),
    ("79.0.0.0/10", "IT", "Telecom Italia"),
    ("130.237.0.0/16", "SE", "SUNET, KTH"),
    ("129.240.0.0/16", "NO", "University of Oslo"),
    ("128.214.0.0/16", "FI", "University of Helsinki"),
    ("129.132.0.0/16", "CH", "ETH Zurich"),
    ("131.130.0.0/16", "AT", "University of Vienna"),
    ("134.58.0.0/16", "BE", "KU Leuven"),
    ("147.251.0.0/16", "CZ", "Masaryk University"),
    ("134.226.0.0/16", "IE", "Trinity College Dublin"),
    ("147.102.0.0/16", "GR", "National Technical University of Athens"),
    ("93.180.0.0/18", "RU", "Moscow State University"),
    ("144.122.0.0/16", "TR", "METU"),
    ("171.64.0.0/14", "US", "Stanford University"),
    ("128.32.0.0/16", "US", "UC Berkeley"),
    ("73.0.0.0/8", "US", "Comcast"),
    ("128.100.0.0/16", "CA", "University of Toronto"),
    ("142.103.0.0/16", "CA", "University of British Columbia"),
    ("132.248.0.0/16", "MX", "UNAM"),
    ("146.164.0.0/16", "BR", "UFRJ"),
    ("143.107.0.0/16", "BR", "University of São Paulo"),
    ("157.92.0.0/16", "AR", "University of Buenos Aires"),
    ("146.83.0.0/16", "CL", "REUNA"),
    ("157.253.0.0/16", "CO", "Universidad de los Andes"),
    ("167.56.0.0/13", "UY", "Antel"),
    ("139.130.0.0/16", "AU", "Telstra"),
    ("129.78.0.0/16", "AU", "University of Sydney"),
    ("130.216.0.0/16", "NZ", "University of Auckland"),
    ("144.120.0.0/16", "FJ", "University of the South Pacific"),
    ("203.178.128.0/17", "JP", "WIDE"),
    ("133.11.0.0/16", "JP", "University of Tokyo"),
    ("118.0.0.0/12", "JP", "NTT (OCN)"),
    ("143.248.0.0/16", "KR", "KAIST"),
    ("166.111.0.0/16", "CN", "Tsinghua University"),
    ("140.112.0.0/16", "TW", "National Taiwan University"),
    ("147.8.0.0/16", "HK", "University of Hong Kong"),
    ("137.132.0.0/16", "SG", "National University of Singapore"),
    ("161.200.0.0/16", "TH", "Chulalongkorn University"),
    ("152.118.0.0/16", "ID", "University of Indonesia"),
    ("117.192.0.0/10", "IN", "BSNL"),
    ("39.32.0.0/11", "PK", "PTCL"),
    ("132.66.0.0/16", "IL", "Tel Aviv University"),
    ("155.239.0.0/16", "ZA", "Telkom SA"),
    ("137.158.0.0/16", "ZA", "University of Cape Town"),
    ("197.136.0.0/16", "KE", "KENET"),
    ("41.32.0.0/12", "EG", "TE Data"),
    ("2001:630::/32", "GB", "Jisc (JANET)"),
    ("2001:67c:2e8::/48", "NL", "RIPE NCC"),
    ("2001:610::/32", "NL", "SURF"),
    ("2001:638::/32", "DE", "DFN"),
    ("2003::/29", "DE", "Deutsche Telekom"),
    ("2001:660::/32", "FR", "RENATER"),
    ("2a01:e00::/28", "FR", "Free"),
    ("2001:6b0::/32", "SE", "SUNET"),
    ("2001:700::/32", "NO", "Sikt (UNINETT)"),
    ("2001:620::/32", "CH", "SWITCH"),
    ("2001:708::/32", "FI", "FUNET"),
    ("2601::/20", "US", "Comcast"),
    ("2001:468::/32", "US", "Internet2"),
    ("2001:410::/32", "CA", "CANARIE"),
    ("2001:12f0::/32", "BR", "RNP"),
    ("2001:1310::/32", "CL", "REUNA"),
    ("2001:1218::/32", "MX", "UNAM"),
    ("2001:288::/32", "TW", "TANet"),
    ("2001:388::/32", "AU", "AARNet"),
    ("2001:8000::/20", "AU", "Telstra"),
    ("2001:4200::/32", "ZA", "TENET"),
    ("2405:200::/29", "IN", "Reliance Jio"),
    ("2400:4000::/22", "JP", "NTT (OCN)"),
    ("240e::/18", "CN", "China Telecom"),
    ("2800:a0::/28", "UY", "Antel"),
];

#[test]
fn well_known_networks_are_in_their_countries() {
    let compiled = compile(&GeoSettings::default()).unwrap();
    let mut continents = BTreeSet::new();
    let mut wrong = Vec::new();
    for (net, expected, whose) in KNOWN {
        let net: IpNet = net.parse().unwrap();
        for addr in [net.network(), net.broadcast()] {
            let found = compiled.table.locate(addr);
            if found.place.country != Some(code(expected)) {
                wrong.push(format!("{addr} of {whose}: {:?}, not {expected}", found.place.country));
            }
            assert_eq!(found.place.position, found.place.country.and_then(countries::centre));
            assert_eq!(compiled.table.source_name(found.source), EMBEDDED_NAME);
        }
        let family = if net.addr().is_ipv6() { 6 } else { 4 };
        continents.extend(countries::find(code(expected)).map(|c| (family, c.continent.code())));
    }
    assert_eq!(wrong, Vec::<String>::new());
    // Six continents in each family.
    assert_eq!(continents.len(), 12, "{continents:?}");
}

#[test]
fn the_table_says_what_the_database_says() {
    let compiled = compile(&GeoSettings::default()).unwrap();
    let reader = Reader::from_source(EMBEDDED).unwrap();
    let (mut seen, mut with_data) = (0, 0);
    // Every 61st network, those without data too.
    for found in
        reader.networks(WithinOptions::default().include_networks_without_data()).unwrap().step_by(61)
    {
        let found = found.unwrap();
        let net = found.network().unwrap();
        let net = IpNet::new(net.ip(), net.prefix()).unwrap();
        let record: Option<HashMap<String, String>> = found.decode().unwrap();
        let expected = record.and_then(|r| r.get("country_code").cloned());
        for addr in [net.network(), net.broadcast()] {
            assert_eq!(country(&compiled.table, &addr.to_string()), expected, "{addr} of {net}");
        }
        seen += 1;
        with_data += usize::from(expected.is_some());
    }
    assert!(seen > 10_000 && with_data > 10_000, "{with_data} of {seen}");
}
