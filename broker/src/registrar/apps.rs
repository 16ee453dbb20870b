//! Records of applications, as they stand.

use super::Registrar;
use crate::admin::AppFilter;
use crate::clock::unix_now;
use data_encoding::BASE64;
use nearmost_replica::{Body, Record};
use nearmost_wire::api::{AppRecordView, AppRecordsResponse};
use nearmost_wire::identity::{Id, Role};

impl Registrar {
    /// Those asked for, in the order of kind and id.
    pub(super) fn app_records(&self, filter: &AppFilter) -> AppRecordsResponse {
        let set = self.held.set.lock();
        let visible = set.all_visible(unix_now().0).map(|(_, signed)| signed.record());
        let role = |record: &Record| match set.authority().is_member(&record.author) {
            true => Role::Broker,
            false => Role::Person,
        };
        let records = visible.filter(|r| filter.wants(r)).map(|r| view(r, role(r))).collect();
        AppRecordsResponse { version: self.held.version, records }
    }
}

impl AppFilter {
    fn wants(&self, record: &Record) -> bool {
        record.kind.is_application()
            && record.scope == self.domain
            && self.kind.is_none_or(|kind| kind == record.kind)
            && match &self.id {
                Some(id) => record.id == *id,
                None => !record.is_tombstone(),
            }
    }
}

fn view(record: &Record, author: Role) -> AppRecordView {
    let body = match &record.body {
        Body::Live { bytes, .. } => Some(BASE64.encode(bytes)),
        Body::Tombstone => None,
    };
    AppRecordView {
        domain: record.scope.clone(),
        kind: record.kind.0,
        id: record.id.clone(),
        body,
        author: Id { role: author, key: record.author.0 }.to_string(),
        hlc_millis: record.hlc.millis,
        hlc_counter: record.hlc.counter,
    }
}
