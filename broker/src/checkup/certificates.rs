//! Certificates of HTTPS and of encrypted DNS: readable, theirs, and good for how long.

use super::{fail, ok, span, warn};
use nearmost_config::{BrokerConfig, TlsFiles};
use nearmost_core::time::UnixMillis;
use nearmost_wire::api::FindingView;

/// A certificate that expires sooner should have been renewed: those of 90 days are at a third before their end.
const WARN_BEFORE_MS: u64 = 14 * 86_400_000;

/// One certificate.
#[derive(Clone, Debug)]
pub(super) struct Used {
    /// The section of the configuration.
    section: &'static str,
    /// The certificate's file.
    file: String,
    /// When it expires, in seconds since 1970; else what is wrong with the files.
    expires_s: Result<i64, String>,
}

pub(super) fn gather(config: &BrokerConfig) -> Vec<Used> {
    let http = config.http.tls.as_ref().map(|files| ("http.tls", files));
    let dns = config.dns.tls.files_in_use().map(|files| ("dns.tls", files));
    let used = |(section, files): (&'static str, &TlsFiles)| Used {
        section,
        file: files.cert.display().to_string(),
        expires_s: crate::dns::certificate::expiry(files).map_err(|e| e.to_string()),
    };
    http.into_iter().chain(dns).map(used).collect()
}

pub(super) fn judge(all: &[Used], now: UnixMillis) -> Vec<FindingView> {
    all.iter().map(|used| judge_one(used, now)).collect()
}

fn judge_one(used: &Used, now: UnixMillis) -> FindingView {
    let Used { section, file, expires_s } = used;
    let renew = format!(
        "renew it (certbot, lego or acme.sh; `nearmost domain acme` answers dns-01) and write it to {file}: it is taken over by itself"
    );
    let expires = match expires_s {
        Ok(expires) => u64::try_from(*expires).unwrap_or(0).saturating_mul(1000),
        Err(why) => {
            let fix = "correct the files: certificate and key in PEM form, of one pair, readable by the broker's user; the \
                       one in memory stays in use until the broker restarts";
            return fail("certificate", format!("{section}: {why}"), fix);
        }
    };
    match expires.checked_sub(now.0) {
        None | Some(0) => {
            let ago = span(now.0.saturating_sub(expires));
            fail("certificate", format!("{section}: {file} expired {ago} ago"), renew)
        }
        Some(left) if left < WARN_BEFORE_MS => {
            warn("certificate", format!("{section}: {file} expires in {}", span(left)), renew)
        }
        Some(left) => ok("certificate", format!("{section}: {file} is good for {}", span(left))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls_files::testing::write_certificate;

    #[test]
    fn expiry_is_judged() {
        let level = |expires_s| {
            let used = Used { section: "http.tls", file: "c".into(), expires_s: Ok(expires_s) };
            judge_one(&used, UnixMillis(100 * 86_400_000)).level
        };
        let day = 86_400;
        assert_eq!(
            [level(200 * day), level(110 * day), level(99 * day), level(-5)],
            ["ok", "warn", "fail", "fail"]
        );
    }

    #[test]
    fn files_that_do_not_go_together_are_told() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (files, _) = write_certificate(dir.path());
        let (foreign, _) = write_certificate(other.path());
        let mut config = BrokerConfig::default();
        config.http.tls = Some(files.clone());
        assert_eq!(gather(&config)[0].expires_s.as_ref().err(), None);
        config.http.tls = Some(TlsFiles { key: foreign.key, ..files });
        let found = judge(&gather(&config), UnixMillis(0));
        assert!(found[0].level == "fail" && found[0].message.contains("key.pem"), "{found:?}");
    }
}
