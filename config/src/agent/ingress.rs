//! The ingress: who may come, and where their flows go on this machine.

use super::spec::{IngressSpec, ServiceIngressSpec};
use super::{IngressConfig, ServiceIngress};
use crate::error::Fault;
use crate::value::set;
use std::net::SocketAddr;

impl IngressSpec {
    pub(super) fn apply(self, ingress: &mut IngressConfig) -> Result<(), Fault> {
        set(&mut ingress.enabled, self.enabled);
        set(&mut ingress.listen, self.listen);
        set(&mut ingress.connections.most, self.max_connections);
        set(&mut ingress.connections.most_a_network, self.max_per_network);
        set(&mut ingress.connections.handshakes_per_second, self.handshakes_per_second);
        set(&mut ingress.max_flows, self.max_flows);
        set(&mut ingress.max_session_flows, self.max_session_flows);
        set(&mut ingress.max_tripwires, self.max_tripwires);
        match ingress.enabled && ingress.listen.is_empty() {
            true => Err(Fault::rule("ingress.listen", "must hold at least one address while enabled")),
            false => Ok(()),
        }
    }
}

/// Where flows go; `own` is the service's own address, which its TCP connections have unless said.
pub(super) fn of_service(
    path: &str,
    keys: Option<ServiceIngressSpec>,
    own: SocketAddr,
) -> Result<ServiceIngress, Fault> {
    let mut ingress = ServiceIngress { udp: None, tcp: Some(own), proxy_protocol: false };
    let Some(keys) = keys else { return Ok(ingress) };
    set(&mut ingress.udp, keys.udp);
    set(&mut ingress.tcp, keys.tcp);
    set(&mut ingress.proxy_protocol, keys.proxy_protocol);
    for (key, target) in [("udp", ingress.udp), ("tcp", ingress.tcp)] {
        if let Some(target) = target.filter(|t| t.port() == 0 || t.ip().is_unspecified()) {
            let found = format!("{:?}", target.to_string());
            return Err(Fault::value(format!("{path}.{key}"), found, "an address and port of the service"));
        }
    }
    match ingress.proxy_protocol && ingress.tcp.is_none() {
        true => Err(Fault::rule(format!("{path}.proxy_protocol"), "is for tcp, which is \"\"")),
        false => Ok(ingress),
    }
}
