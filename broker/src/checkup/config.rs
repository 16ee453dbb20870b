//! Settings that are allowed, and might be a slip.

use super::{ok, warn};
use crate::api::ApiSettings;
use nearmost_config::BrokerConfig;
use nearmost_wire::api::FindingView;

pub(super) fn judge(config: &BrokerConfig, api: &ApiSettings) -> Vec<FindingView> {
    let mut findings = Vec::new();
    let zone = &config.dns.zone;
    if zone.nameservers.is_empty() {
        findings.push(warn(
            "configuration",
            "dns.nameservers is empty: the NS records of each zone name ns.ZONE, and of no other broker",
            "set dns.nameservers to the host names of all brokers that answer for the zones",
        ));
    }
    let served = |ns: &&String| zone.zones.iter().any(|z| ns.ends_with(&format!(".{z}")));
    if zone.nameserver_addresses.is_empty() && zone.nameservers.iter().any(|ns| served(&ns)) {
        findings.push(warn(
            "configuration",
            "a name server's name lies in a zone of this broker, and dns.nameserver_addresses is empty",
            "set dns.nameserver_addresses to its addresses, or nobody finds it",
        ));
    }
    if config.mirrors.caution.references.is_empty() {
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
            let found = judge(config, &ApiSettings::default());
            found.into_iter().filter(|f| f.level == "warn").map(|f| f.message).collect()
        };
        assert_eq!(messages(&config).len(), 2);
        config.dns.zone.nameservers = vec!["ns1.a.test".into()];
        config.dns.zone.zones = vec!["a.test".into()];
        config.mirrors.caution.references = vec!["192.0.2.1:53".parse().unwrap()];
        assert!(messages(&config)[0].contains("nameserver_addresses"));
        config.dns.zone.nameserver_addresses = vec!["192.0.2.1".parse().unwrap()];
        assert!(messages(&config).is_empty());
    }
}
