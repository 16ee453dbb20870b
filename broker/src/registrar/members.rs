//! Members of the federation: inviting, joining, letting in, and telling who they are.

use super::out::MemberInfo;
use super::write::Extra;
use super::{MAX_INVITE_S, Registrar};
use crate::admin::AdminError;
use crate::audit::{Act, By, Origin, Via, Who, acts};
use crate::clock::{unix_now, utc};
use crate::store::{Beside, StoreError, TokenEntry, TokenError};
use nearmost_replica::{Authority, Body, Kind, PublicKey, RecordKey};
use nearmost_wire::api::{PeerInviteRequest, PeerInviteResponse, PeerJoinRequest, PeerJoinResponse};
use nearmost_wire::identity::{Id, Role};
use nearmost_wire::peer::Join;
use nearmost_wire::registry::{EndpointBody, PeerBody};
use nearmost_wire::token::{JoinToken, PeerToken};
use ring::rand::{SecureRandom, SystemRandom};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Among a token's domains: the new member is an admin. No domain begins like this.
const ADMIN: &str = "!admin";
/// Where secrets of tokens are kept until they were used.
const JOINS: &str = "joins";
/// Most addresses that a joining broker may say.
const MAX_ADDRESSES: usize = 8;

impl Registrar {
    pub(super) async fn invite_peer(
        &mut self,
        who: &Who,
        request: PeerInviteRequest,
    ) -> Result<PeerInviteResponse, AdminError> {
        let bad = AdminError::Request;
        let PeerInviteRequest { name, admin, domains, ttl_s } = request;
        let body = PeerBody { name: name.clone(), admin, domains: domains.clone(), ..PeerBody::default() };
        body.check().map_err(|e| bad(e.to_string()))?;
        if ttl_s == 0 || ttl_s > MAX_INVITE_S {
            return Err(bad(format!("ttl_s = {ttl_s}: expected 1 to {MAX_INVITE_S}")));
        }
        if let Some(taken) = self.taken_name(&name) {
            return Err(bad(format!("the name {name} does not tell its nodes from those of {taken}")));
        }
        if self.settings.endpoints.peers.is_empty() {
            return Err(bad("peers.advertise is empty and the peers' port listens on every address: say in the configuration under which host:port other brokers reach this one".into()));
        }
        let mut secret = [0; 16];
        SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| bad("the system's random number generator failed".into()))?;
        let expires_unix_ms = unix_now().0 + ttl_s * 1000;
        let act = Act {
            by: who.by(),
            code: acts::PEER_INVITE.into(),
            at_unix_ms: unix_now().0,
            target: name.clone(),
            note: token_note(&domains, admin, expires_unix_ms),
            ..Act::default()
        };
        let domains = domains.into_iter().chain(admin.then(|| ADMIN.to_owned())).collect();
        let entry = TokenEntry { domains, node: name, expires_unix_ms, created_by: who.actor.to_string() };
        self.store.write_act(act, Beside::Token(PeerToken::secret_hash(&secret), entry)).await?;
        let addresses = self.settings.endpoints.peers.clone();
        let token = PeerToken(JoinToken { broker: self.author.id.key, secret, addresses });
        Ok(PeerInviteResponse { token: token.encode(), expires_unix_ms })
    }

    /// The member or node whose name a new member's would cover, or be covered by.
    fn taken_name(&self, name: &str) -> Option<String> {
        let covers = |a: &str, b: &str| b.strip_prefix(a).is_some_and(|r| r.is_empty() || r.starts_with('-'));
        let members = self.out.members.borrow();
        let mut taken =
            members.iter().map(|m| m.name.as_str()).filter(|m| covers(m, name) || covers(name, m));
        let nodes = self.held.built.registry.nodes.iter().map(|n| &*n.name);
        taken.next().or_else(|| nodes.into_iter().find(|node| covers(name, node))).map(str::to_owned)
    }

    /// Asks to be let in: the inviting broker is a member here at once, and is dialled with the secret.
    pub(super) async fn join_peer(
        &mut self,
        who: &Who,
        request: PeerJoinRequest,
    ) -> Result<PeerJoinResponse, AdminError> {
        let token = PeerToken::decode(&request.token).map_err(|e| AdminError::Request(e.to_string()))?.0;
        let peer = PublicKey(token.broker);
        if peer == self.author.key.public() {
            return Err(AdminError::Request("this broker made the token itself".into()));
        }
        let id = token.broker_id().to_string();
        let mut joins = BTreeMap::clone(&self.out.joins.borrow());
        joins.insert(peer, token.secret);
        // The secret with the entry that tells of it: who finds the one after a crash finds the other.
        let blob = (JOINS, joins_as_bytes(&joins));
        let known = self.held.set.lock().authority().is_member(&peer);
        if !known {
            let body = PeerBody {
                name: id.chars().take(11).collect(),
                admin: true,
                addresses: token.addresses.clone(),
                ..PeerBody::default()
            };
            let origin = Origin::new(who.by(), acts::PEER_JOIN);
            let change = vec![(peer_key(&id), Some(json(&body)?))];
            let extra = Extra { redeem: None, blob: Some(blob) };
            self.write_own_with(change, format!("joining {id}"), extra, origin).await?;
        } else {
            let act = Act {
                by: who.by(),
                code: acts::PEER_JOIN.into(),
                at_unix_ms: unix_now().0,
                target: id.clone(),
                note: "it is a member here already".into(),
                ..Act::default()
            };
            self.store.write_act(act, Beside::Blob(blob.0, blob.1)).await?;
        }
        self.out.joins.send_replace(Arc::new(joins));
        Ok(PeerJoinResponse { peer: id, addresses: token.addresses })
    }

    /// A member has let this broker in, or refused its token for good.
    pub(super) async fn joined(&mut self, peer: PublicKey) -> Result<(), StoreError> {
        let mut joins = BTreeMap::clone(&self.out.joins.borrow());
        match joins.remove(&peer) {
            Some(_) => self.keep_joins(joins).await,
            None => Ok(()),
        }
    }

    async fn keep_joins(&mut self, joins: BTreeMap<PublicKey, [u8; 16]>) -> Result<(), StoreError> {
        self.store.put_meta(JOINS, joins_as_bytes(&joins)).await?;
        self.out.joins.send_replace(Arc::new(joins));
        Ok(())
    }

    pub(super) async fn load_joins(&mut self) -> Result<(), StoreError> {
        let bytes = self.store.get_meta(JOINS).await?.unwrap_or_default();
        let (entries, _) = bytes.as_chunks::<48>();
        let entry = |entry: &[u8; 48]| {
            let (mut key, mut secret) = ([0; 32], [0; 16]);
            key.copy_from_slice(&entry[..32]);
            secret.copy_from_slice(&entry[32..]);
            (PublicKey(key), secret)
        };
        self.out.joins.send_replace(Arc::new(entries.iter().map(entry).collect()));
        Ok(())
    }

    /// Makes the holder of a token a member.
    pub(super) async fn admit_peer(
        &mut self,
        (key, source): (PublicKey, IpAddr),
        join: Join,
    ) -> Result<(), AdminError> {
        let who = Id { role: Role::Broker, key: key.0 };
        let id = who.to_string();
        let hash = PeerToken::secret_hash(&join.secret);
        let entry = match self.store.check_token(hash, unix_now().0).await {
            Ok(entry) => entry,
            // Its answer may have been lost on the way.
            Err(StoreError::Token(TokenError::Used { .. })) if self.is_member(&key) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        if let Some(taken) = self.taken_name(&entry.node) {
            let name = entry.node;
            return Err(AdminError::Request(format!(
                "{name} does not tell its nodes from those of {taken} now"
            )));
        }
        let addresses = join.addresses.into_iter().take(MAX_ADDRESSES).filter(|a| a.len() <= 255).collect();
        let body = PeerBody {
            name: entry.node,
            admin: entry.domains.iter().any(|d| d == ADMIN),
            domains: entry.domains.into_iter().filter(|d| d != ADMIN).collect(),
            addresses,
            made_by: None,
            invited_unix_ms: Some(unix_now().0),
        };
        let note = format!("{} joined by invitation of {}", body.name, entry.created_by);
        let origin = Origin::new(By::key(&who, Via::Peers).from(source), acts::PEER_ADMIT);
        self.write_own(vec![(peer_key(&id), Some(json(&body)?))], note, Some(hash), origin).await?;
        Ok(())
    }

    fn is_member(&self, key: &PublicKey) -> bool {
        self.held.set.lock().authority().is_member(key)
    }

    /// Members that the configuration names and this broker has said nothing of.
    pub(super) async fn state_known(&mut self) -> Result<(), AdminError> {
        let own = self.author.key.public();
        let mut changes = Vec::new();
        for (id, body) in self.settings.known.clone() {
            let key = peer_key(&id.to_string());
            let set = self.held.set.lock();
            let slot = nearmost_replica::set::slot_of(key.kind, &key.scope, &key.id, &own);
            let standing = set.admitted(slot).map(|signed| body_of::<PeerBody>(&signed.record().body));
            drop(set);
            // What a person removed by hand stays removed, whatever the configuration says.
            if standing.is_none_or(|standing| standing.is_some_and(|standing| standing != body)) {
                changes.push((key, Some(json(&body)?)));
            }
        }
        match changes.is_empty() {
            true => Ok(()),
            false => {
                let origin = self.of_its_own(acts::OWN);
                self.write_own(changes, "peers of the configuration".into(), None, origin).await
            }
        }
    }

    /// Says where this broker is reached, once there is anybody to say it to.
    pub(super) async fn state_endpoint(&mut self) -> Result<(), AdminError> {
        if self.out.members.borrow().is_empty() {
            return Ok(());
        }
        let id = self.author.id.to_string();
        let key = RecordKey { kind: Kind::ENDPOINT, scope: String::new(), id };
        let standing = self.held.records.get(&key).and_then(|r| body_of::<EndpointBody>(&r.record().body));
        if standing.as_ref() == Some(&self.settings.endpoints) {
            return Ok(());
        }
        let body = json(&self.settings.endpoints)?;
        let origin = self.of_its_own(acts::OWN);
        self.write_own(vec![(key, Some(body))], "where this broker is reached".into(), None, origin).await
    }

    /// Tells who the other members are, if that has changed.
    pub(super) fn publish_members(&self) {
        let set = self.held.set.lock();
        let own = self.author.key.public();
        let info = |member: &nearmost_wire::authority::Member| {
            let id = Id { role: Role::Broker, key: member.key.0 }.to_string();
            let key = RecordKey { kind: Kind::ENDPOINT, scope: String::new(), id };
            let said = self.held.records.get(&key).and_then(|r| body_of::<EndpointBody>(&r.record().body));
            let said = said.map(|body| body.peers).unwrap_or_default();
            let body = &member.body;
            MemberInfo {
                key: member.key,
                name: body.name.clone(),
                admin: body.admin,
                domains: body.domains.clone(),
                via: (member.via != own).then_some(member.via),
                addresses: if said.is_empty() { body.addresses.clone() } else { said },
            }
        };
        let (rights, now) = (set.authority(), unix_now().0);
        let members = rights.members().into_iter().filter(|m| m.key != own);
        // Who is banned is no peer while that lasts.
        let members = members.filter(|m| rights.banned(&m.key, "", now).is_none());
        let members: Vec<MemberInfo> = members.map(info).collect();
        drop(set);
        self.out.members.send_if_modified(|known| {
            let changed = **known != members;
            if changed {
                *known = Arc::new(members);
            }
            changed
        });
    }
}

/// As the store keeps them.
fn joins_as_bytes(joins: &BTreeMap<PublicKey, [u8; 16]>) -> Vec<u8> {
    joins.iter().flat_map(|(key, secret)| key.0.iter().chain(secret).copied()).collect()
}

/// What a token entitles to, for the audit log.
pub(super) fn token_note(domains: &[String], admin: bool, expires_unix_ms: u64) -> String {
    let admin = if admin { "admin; " } else { "" };
    format!("{admin}domains: {}; good until {}", domains.join(" "), utc(expires_unix_ms))
}

fn peer_key(id: &str) -> RecordKey {
    RecordKey { kind: Kind::PEER, scope: String::new(), id: id.to_owned() }
}

fn json<T: serde::Serialize>(body: &T) -> Result<Vec<u8>, AdminError> {
    serde_json::to_vec(body).map_err(|e| AdminError::Request(e.to_string()))
}

fn body_of<T: DeserializeOwned>(body: &Body) -> Option<T> {
    match body {
        Body::Live { bytes, .. } => serde_json::from_slice(bytes).ok(),
        Body::Tombstone => None,
    }
}
