//! `GET /v1/traffic`: who uses which mirror now, and from where.

use super::error::Problem;
use super::params::Params;
use super::{Me, Shared};
use crate::clock::unix_now;
use axum::Json;
use axum::extract::State;
use http::Uri;
use nearmost_core::geo::countries;
use nearmost_core::map::Map;
use nearmost_core::traffic::{self, Flow};
use nearmost_wire::api::{BrokerView, FlowView, MirrorTrafficView, TrafficResponse};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Most flows of one answer: what a map can show, and a browser draws each second.
const MOST_FLOWS: usize = 2000;

/// How long whoever knows the other brokers may take: they are nice to have.
const PATIENCE: Duration = Duration::from_millis(200);

/// Tells how many users each mirror has, from where, and how far they are.
#[utoipa::path(
    get,
    path = "/v1/traffic",
    tag = "operators",
    responses((status = 200, body = TrafficResponse))
)]
pub(super) async fn traffic(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Json<TrafficResponse>, Problem> {
    Params::read(&uri, &[])?;
    let api = &shared.api;
    // A broker that has no peers is alone, which is no error here.
    let peers = match &api.peers {
        Some(handle) => match tokio::time::timeout(PATIENCE, handle.peers()).await {
            Ok(Ok(all)) => all.peers,
            _ => Vec::new(),
        },
        None => Vec::new(),
    };
    let snapshot = api.snapshot.load();
    let mut brokers = vec![broker(&snapshot.map, &api.me)];
    brokers.extend(peers.into_iter().map(|p| {
        let (latitude, longitude) = position(&snapshot.map, &p.addresses);
        BrokerView { id: p.id, name: p.name, me: false, latitude, longitude }
    }));
    let told = api.fleet.traffic.told();
    let (flows, left_out) = largest(told.flows.iter().collect());
    let mirrors = told.mirrors.iter().map(|(name, users)| {
        let quantiles = users.quantiles();
        MirrorTrafficView {
            domain: name.domain.to_string(),
            mirror: name.mirror.to_string(),
            users: tenths(users.users),
            rtt_p50_ms: quantiles.map(|q| tenths(q.p50_ms.into())),
            rtt_p95_ms: quantiles.map(|q| tenths(q.p95_ms.into())),
        }
    });
    Ok(Json(TrafficResponse {
        at_unix_ms: unix_now().0,
        window_s: traffic::WINDOW.as_secs(),
        flows: flows.into_iter().map(view).collect(),
        left_out,
        mirrors: mirrors.collect(),
        brokers,
    }))
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The largest flows in the order of names, and how many others there are.
fn largest(mut flows: Vec<&Flow>) -> (Vec<&Flow>, u64) {
    let left_out = flows.len().saturating_sub(MOST_FLOWS);
    if left_out > 0 {
        flows.select_nth_unstable_by(MOST_FLOWS - 1, |a, b| b.users.total_cmp(&a.users));
        flows.truncate(MOST_FLOWS);
        flows.sort_by(|a, b| (&a.mirror, a.country).cmp(&(&b.mirror, b.country)));
    }
    (flows, left_out as u64)
}

fn view(flow: &Flow) -> FlowView {
    let country = flow.country.and_then(countries::find);
    FlowView {
        domain: flow.mirror.domain.to_string(),
        mirror: flow.mirror.mirror.to_string(),
        country: flow.country.map(|c| c.to_string()),
        latitude: country.map(|c| tidy(c.lat)),
        longitude: country.map(|c| tidy(c.lon)),
        users: tenths(flow.users),
    }
}

/// As it is written in the table of countries.
fn tidy(degrees: f32) -> f64 {
    (f64::from(degrees) * 100.0).round() / 100.0
}

fn broker(map: &Map, me: &Me) -> BrokerView {
    let (latitude, longitude) = position(map, &me.addresses);
    BrokerView { id: me.id.to_string(), name: me.name.clone(), me: true, latitude, longitude }
}

/// Where the first of the addresses is that is one, and is located.
fn position(map: &Map, addresses: &[String]) -> (Option<f64>, Option<f64>) {
    let literal = |text: &String| -> Option<IpAddr> {
        text.parse::<SocketAddr>().map(|a| a.ip()).or_else(|_| text.parse()).ok()
    };
    let found = addresses.iter().filter_map(literal).find_map(|a| map.locate(a).place.position);
    found.map(|p| p.degrees()).map_or((None, None), |(lat, lon)| (Some(tenths(lat)), Some(tenths(lon))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::Fixture;
    use nearmost_core::traffic::MirrorName;

    #[test]
    fn the_smallest_flows_are_left_out() {
        let flow = |n: usize| Flow {
            mirror: MirrorName { domain: "a.test".into(), mirror: format!("m{n:05}").into() },
            country: None,
            users: n as f64,
        };
        let all: Vec<Flow> = (0..MOST_FLOWS + 5).map(flow).collect();
        let (kept, left_out) = largest(all.iter().collect());
        assert_eq!((kept.len(), left_out), (MOST_FLOWS, 5));
        assert_eq!(&*kept[0].mirror.mirror, "m00005");
        assert!(kept.is_sorted_by(|a, b| a.mirror < b.mirror));
        assert_eq!(largest(all.iter().take(1).collect()).1, 0);
    }

    #[test]
    fn a_broker_is_where_its_first_address_is_that_is_known() {
        let map = &Fixture::five_mirrors().snapshot().map;
        let at = |addresses: &[&str]| {
            position(map, &addresses.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(at(&[]), (None, None));
        assert_eq!(at(&["broker.example.net:7843", "[2001:db8::1]:7843"]), (None, None));
        let known = map.locate("203.0.113.9".parse().unwrap()).place.position.unwrap().degrees();
        let found = at(&["0.0.0.0:7843", "203.0.113.9:7843"]);
        assert!((found.0.unwrap() - known.0).abs() < 0.1 && (found.1.unwrap() - known.1).abs() < 0.1);
    }
}
