//! Records of applications, as they stand.

use super::Registrar;
use crate::admin::AppFilter;
use crate::clock::unix_now;
use data_encoding::BASE64;
use nearmost_replica::{Body, Record, RecordKey, SignedRecord};
use nearmost_wire::api::{AppRecordView, AppRecordsResponse};
use nearmost_wire::identity::{Id, Role};

impl Registrar {
    /// Those asked for, in the order of kind and id.
    pub(super) fn app_records(&self, filter: &AppFilter) -> AppRecordsResponse {
        let (set, now) = (self.held.set.lock(), unix_now().0);
        let role = |record: &Record| match set.authority().is_member(&record.author) {
            true => Role::Broker,
            false => Role::Person,
        };
        let wanted = |signed: &SignedRecord| {
            let record = signed.record();
            filter.wants(record).then(|| view(record, role(record)))
        };
        let records = match filter.key() {
            // Asked for each record that a reader has to be told is gone.
            Some(key) => set.visible(&key, now).and_then(wanted).into_iter().collect(),
            None => set.all_visible(now).filter_map(|(_, signed)| wanted(signed)).collect(),
        };
        AppRecordsResponse { version: self.held.version, records }
    }
}

impl AppFilter {
    /// The one record that it can be.
    fn key(&self) -> Option<RecordKey> {
        Some(RecordKey { kind: self.kind?, scope: self.domain.clone(), id: self.id.clone()? })
    }

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
