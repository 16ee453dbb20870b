//! What happens when mirrors fail and come back: what is built of it, and what is refused.

use super::bodies::DomainBody;
use super::build::*;
use super::failover::*;
use nearmost_core::registry::{Failover, Policy};
use proptest::prelude::{Strategy, any, prop, prop_assert_eq, proptest};
use serde_json::{Value, json};
use std::time::Duration;

fn of_domain(body: &Value) -> Built {
    let body = body.to_string();
    let entry = Entry { kind: EntryKind::Domain, scope: "a.test", id: "", body: body.as_bytes() };
    build(1, [entry], &BuildDefaults::default())
}

fn built(body: Value) -> Failover {
    let mut built = of_domain(&body);
    assert_eq!(built.problems, [], "{body}");
    built.registry.domains.remove(0).policy.failover
}

#[test]
fn a_body_without_the_fields_has_the_usual_policy_and_stays_as_it_was() {
    assert_eq!(of_domain(&json!({})).registry.domains[0].policy, Policy::default());
    let written = serde_json::to_string(&DomainBody::default()).expect("writes");
    for absent in ["ttl_min_s", "ttl_max_s", "failback", "failover"] {
        assert!(!written.contains(absent), "{absent} in {written}");
    }
}

#[test]
fn ttls_that_are_not_given_follow_the_ttl() {
    for (body, least, most) in [
        (json!({}), 5, 60),
        (json!({ "ttl_s": 3 }), 3, 60),
        (json!({ "ttl_s": 300 }), 5, 300),
        (json!({ "ttl_min_s": 20, "ttl_max_s": 20 }), 20, 20),
        (json!({ "ttl_s": 300, "ttl_min_s": 10, "ttl_max_s": 900 }), 10, 900),
    ] {
        let found = built(body.clone());
        let expected = (Duration::from_secs(least), Duration::from_secs(most));
        assert_eq!((found.ttl_least, found.ttl_most), expected, "{body}");
    }
}

#[test]
fn failback_is_built() {
    assert!(built(json!({ "failback": "manual" })).manual_failback);
    assert!(!built(json!({ "failback": "auto" })).manual_failback);
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    for (body, says) in [
        (json!({ "ttl_min_s": 21 }), "domain a.test: ttl_min_s = 21: expected at most ttl_s, which is 20"),
        (
            json!({ "ttl_s": 30, "ttl_max_s": 29 }),
            "domain a.test: ttl_max_s = 29: expected at least ttl_s, which is 30",
        ),
        (json!({ "ttl_min_s": 0 }), "ttl_min_s = 0: expected 1 to 86400"),
        (json!({ "ttl_max_s": 86_401 }), "ttl_max_s = 86401: expected 1 to 86400"),
        (json!({ "ttl_max_s": "long" }), "body: "),
        (json!({ "failback": "never" }), "unknown variant `never`, expected `auto` or `manual`"),
    ] {
        let problems = of_domain(&body).problems;
        assert_eq!(problems.len(), 1, "{body}: {problems:?}");
        let problem = problems[0].to_string();
        assert!(problem.contains(says), "{body}: {problem}\nexpected: {says}");
    }
}

fn body() -> impl Strategy<Value = FailoverBody> {
    let ttl = || prop::option::of(any::<u32>());
    (ttl(), ttl(), prop::sample::select(FailbackBody::ALL.to_vec()))
        .prop_map(|(ttl_min_s, ttl_max_s, failback)| FailoverBody { ttl_min_s, ttl_max_s, failback })
}

proptest! {
    /// Among a domain's fields they come back as they were, and what is built is in order.
    #[test]
    fn bodies_round_trip(failover in body(), ttl_s in 1u32..=86_400) {
        let domain = DomainBody { ttl_s, failover, ..DomainBody::default() };
        let json = serde_json::to_string(&domain).expect("writes");
        prop_assert_eq!(&serde_json::from_str::<DomainBody>(&json).expect("reads"), &domain);
        let built = of_domain(&serde_json::to_value(&domain).expect("writes"));
        if let Some(domain) = built.registry.domains.first() {
            let Policy { ttl, failover, .. } = &domain.policy;
            prop_assert_eq!(failover.ttl_least.max(*ttl), *ttl);
            prop_assert_eq!(failover.ttl_most.min(*ttl), *ttl);
        }
    }
}
