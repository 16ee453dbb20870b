//! Redeeming an invitation.
//!
//! A token proves that a person invited *a* node, and its record becomes that node's. Only a token
//! that itself names a record may fill one that a person prepared: the name that the joining agent
//! asks for must be free, or whoever holds any token would take over what was meant for another.
//!
//! | the key is … | name | may be |
//! |---|---|---|
//! | known | the node's | not revoked; a token that names another node is for that one |
//! | new, the token names a node | the token's | free, or a record without a key, not revoked |
//! | new, the token names none | asked for, or made from the key | free |

use super::{Registrar, refused};
use crate::admin::{Joined, Refused};
use crate::audit::{By, Origin, Via, acts};
use crate::clock::unix_now;
use crate::store::{HistoryFilter, StoreError, TokenEntry, TokenError};
use nearmost_core::registry::Node;
use nearmost_replica::{Body, Kind, RecordKey};
use nearmost_wire::agent::Refusal;
use nearmost_wire::identity::{Id, Role};
use nearmost_wire::name;
use nearmost_wire::registry::NodeBody;
use nearmost_wire::token::JoinToken;
use std::net::IpAddr;

/// Log entries of one node that are looked through for a token that was used already.
const LOOK_BACK: usize = 32;

impl Registrar {
    pub(super) async fn join(
        &mut self,
        (key, source): ([u8; 32], IpAddr),
        secret: [u8; 16],
        asked: Option<String>,
    ) -> Result<Joined, Refused> {
        let hash = JoinToken::secret_hash(&secret);
        let id = Id { role: Role::Node, key };
        let entry = match self.store.check_token(hash, unix_now().0).await {
            Ok(entry) => entry,
            Err(StoreError::Token(TokenError::Used { used_unix_ms })) => {
                let again = self.joined_before(&id, used_unix_ms).await?;
                return again.ok_or_else(|| StoreError::Token(TokenError::Used { used_unix_ms }).into());
            }
            Err(e) => return Err(e.into()),
        };
        let name = self.name_of(&id, &entry, asked)?;
        let record_key = node_key(&name);
        let mut body = self.node_body(&record_key)?.unwrap_or_default();
        if body.revoked {
            return Err(Refused::new(Refusal::Revoked, format!("node {name} was revoked")));
        }
        if body.id.as_ref().is_some_and(|other| *other != id.to_string()) {
            return Err(taken(&name));
        }
        body.id = Some(id.to_string());
        for domain in entry.domains {
            if !body.domains.contains(&domain) {
                body.domains.push(domain);
            }
        }
        let json = serde_json::to_vec(&body).map_err(|e| Refused::new(Refusal::Storage, e.to_string()))?;
        let note = format!("{name} joined by invitation of {}", entry.created_by);
        let origin = Origin::new(By::key(&id, Via::Agents).from(source), acts::NODE_JOIN);
        let change = vec![(record_key, Some(json))];
        self.write_own(change, note, Some(hash), origin).await.map_err(refused)?;
        Ok(Joined { name, domains: body.domains })
    }

    fn name_of(&self, id: &Id, entry: &TokenEntry, asked: Option<String>) -> Result<String, Refused> {
        let bad = |e: &dyn std::fmt::Display| Refused::new(Refusal::BadName, e.to_string());
        if let Some(node) = self.node_of(id) {
            if node.revoked {
                return Err(Refused::new(Refusal::Revoked, format!("{id} was revoked")));
            }
            if !entry.node.is_empty() && *entry.node != *node.name {
                return Err(bad(&format!("the token is for {}; this key is {}'s", entry.node, node.name)));
            }
            return Ok(node.name.to_string());
        }
        if !entry.node.is_empty() {
            return name::short(&entry.node).map_err(|e| bad(&e));
        }
        let name = asked.unwrap_or_else(|| format!("node-{}", &id.to_string()[3..11]));
        let name = name::short(&name).map_err(|e| bad(&e))?;
        match self.node_body(&node_key(&name))? {
            None => Ok(name),
            Some(_) => Err(taken(&name)),
        }
    }

    fn node_of(&self, id: &Id) -> Option<&Node> {
        let registry = &self.held.built.registry;
        registry.node_by_id.get(&id.node_id()).map(|i| &registry.nodes[i.0 as usize])
    }

    /// The live record of a node; one that this build cannot read is not to be written over.
    fn node_body(&self, key: &RecordKey) -> Result<Option<NodeBody>, Refused> {
        match self.held.records.get(key).map(|r| &r.record().body) {
            None | Some(Body::Tombstone) => Ok(None),
            Some(Body::Live { bytes, .. }) => {
                let unreadable = |_| {
                    Refused::new(
                        Refusal::BadName,
                        format!("the record of {} is there and cannot be read", key.id),
                    )
                };
                serde_json::from_slice(bytes).map(Some).map_err(unreadable)
            }
        }
    }

    /// What was answered to the holder of this key when it used the token, if it was it: its answer
    /// may have been lost on the way, and the token is spent. The record that the token brought about
    /// was logged at the moment at which the token was marked as used.
    async fn joined_before(&self, id: &Id, used_unix_ms: u64) -> Result<Option<Joined>, Refused> {
        let Some(node) = self.node_of(id).filter(|n| !n.revoked) else { return Ok(None) };
        let joined = Joined {
            name: node.name.to_string(),
            domains: node.domains.iter().map(|d| d.to_string()).collect(),
        };
        let filter = HistoryFilter {
            kind: Some(Kind::NODE),
            scope: Some(String::new()),
            id: Some(joined.name.clone()),
            before: None,
            limit: LOOK_BACK,
        };
        let log = self.store.history(filter).await?;
        let by_token = |entry: &nearmost_replica::LogEntry| {
            let record = entry.record.record();
            let body = match &record.body {
                Body::Live { bytes, .. } => serde_json::from_slice::<NodeBody>(bytes).ok(),
                Body::Tombstone => None,
            };
            entry.received_unix_ms == used_unix_ms
                && record.author == self.author.key.public()
                && body.and_then(|b| b.id).is_some_and(|of| of == id.to_string())
        };
        Ok(log.iter().any(by_token).then_some(joined))
    }
}

fn node_key(name: &str) -> RecordKey {
    RecordKey { kind: Kind::NODE, scope: String::new(), id: name.into() }
}

fn taken(name: &str) -> Refused {
    Refused::new(
        Refusal::BadName,
        format!("the name {name} belongs to another node; a token made with --name {name} is for it"),
    )
}
