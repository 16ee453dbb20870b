//! Settings that are allowed, and might be a slip.

use super::{ok, warn};
use crate::api::ApiSettings;
use nearmost_config::BrokerConfig;
use nearmost_wire::api::FindingView;

/// Whom the broker answers for, and to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Serves {
    /// How many domains.
    pub(super) domains: usize,
    /// Whether its DNS listens beyond this machine.
    pub(super) world: bool,
}

pub(super) fn judge(config: &BrokerConfig, api: &ApiSettings, serves: Serves) -> Vec<FindingView> {
    let mut findings = Vec::new();
    let zone = &config.dns.zone;
    // A broker for trying out has no use for these.
    let in_use = serves.world && serves.domains > 0;
    if in_use && zone.nameservers.is_empty() {
        findings.push(warn(
            "configuration",
            "dns.nameservers is empty: the NS records of each zone name ns.ZONE, and of no other broker",
            "set dns.nameservers to the host names of all brokers that answer for the zones",
        ));
    }
    let served = |ns: &&String| zone.zones.iter().any(|z| ns.ends_with(&format!(".{z}")));
    let glue = crate::dns::nameserver_addresses(&zone.nameserver_addresses, &config.dns.listen);
    if glue.is_empty() && zone.nameservers.iter().any(|ns| served(&ns)) {
        findings.push(warn(
            "configuration",
            "a name server's name lies in a zone of this broker, and no address of it is known: dns.nameserver_addresses is \
             empty, and dns.listen names none that the world reaches",
            "set dns.nameserver_addresses to its addresses, or nobody finds it",
        ));
    }
    if in_use && config.mirrors.caution.references.is_empty() {
        findings.push(warn(
            "configuration",
            "caution.references is empty: an outage of this broker's own line looks like one of all mirrors",
            "set caution.references to a few addresses outside that always answer TCP, e.g. of public resolvers",
        ));
    }
    findings.push(ok(
        "access",
        format!("{} tokens and {} persons may use the API", api.tokens.len(), api.persons.len()),
    ));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_told() {
        let mut config = BrokerConfig::default();
        let messages = |config: &BrokerConfig| -> Vec<String> {
            let found = judge(config, &ApiSettings::default(), Serves { domains: 1, world: true });
            found.into_iter().filter(|f| f.level == "warn").map(|f| f.message).collect()
        };
        assert_eq!(messages(&config).len(), 2);
        for serves in [Serves { domains: 0, world: true }, Serves { domains: 1, world: false }] {
            let found = judge(&config, &ApiSettings::default(), serves);
            assert!(found.iter().all(|f| f.level == "ok"), "{serves:?}: {found:?}");
        }
        config.dns.zone.nameservers = vec!["ns1.a.test".into()];
        config.dns.zone.zones = vec!["a.test".into()];
        config.mirrors.caution.references = vec!["192.0.2.1:53".parse().unwrap()];
        assert!(messages(&config)[0].contains("nameserver_addresses"));
        config.dns.zone.nameserver_addresses = vec!["192.0.2.1".parse().unwrap()];
        assert!(messages(&config).is_empty());
    }
}
