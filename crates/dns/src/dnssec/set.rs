//! Finds the sets of records in a reply while it is written, so that each is followed by its signatures.

use crate::dnssec::canonical::RrSet;
use crate::dnssec::{TYPE_RRSIG, ZoneSigner};
use crate::name::WireName;
use crate::reply::{Data, Reply, ReplyError, Section};

/// Type of NS records.
const TYPE_NS: u16 = 2;

/// The set that a reply is in the middle of.
#[derive(Debug)]
pub(crate) struct SetSigner {
    zone: ZoneSigner,
    open: Option<(Section, RrSet)>,
    /// A set could not be signed. What comes later may be left out of a reply, this not.
    failed: Option<ReplyError>,
}

impl SetSigner {
    /// Signs in this zone.
    pub(crate) fn new(zone: ZoneSigner) -> SetSigner {
        SetSigner { zone, open: None, failed: None }
    }

    /// Forgets what was begun.
    pub(crate) fn clear(&mut self) {
        (self.open, self.failed) = (None, None);
    }

    /// Whether a record belongs to the set that is open.
    fn continues(&self, section: Section, owner: &WireName, rtype: u16) -> bool {
        self.open.as_ref().is_some_and(|(at, set)| {
            *at == section && set.rtype == rtype && set.owner.wire().eq_ignore_ascii_case(owner.wire())
        })
    }
}

/// Whether sets of this type are signed in a section. Name servers in the authority section are a
/// delegation, which is the child's to sign (RFC 4035 §2.2), and so are the additional ones that a signed reply
/// has: glue.
fn is_signed(section: Section, rtype: u16) -> bool {
    match section {
        Section::Answer => true,
        Section::Authority => rtype != TYPE_NS,
        Section::Additional => false,
    }
}

impl Reply<'_> {
    /// Whether the sets of this reply are signed.
    pub(crate) fn signs(&self) -> bool {
        self.signer.is_some()
    }

    /// Ends the open set if the next record is not of it; then, where the next record's set is signed, its
    /// data in canonical form.
    pub(crate) fn before(
        &mut self,
        section: Section,
        owner: &WireName,
        data: &Data<'_>,
    ) -> Result<Option<Vec<u8>>, ReplyError> {
        let rtype = data.record_type();
        match &self.signer {
            None => return Ok(None),
            Some(signer) if signer.continues(section, owner, rtype) => {}
            Some(_) => self.close()?,
        }
        match is_signed(section, rtype) {
            true => data.canonical().map(Some),
            false => Ok(None),
        }
    }

    /// Takes a written record into the set.
    pub(crate) fn after(&mut self, section: Section, owner: &WireName, rtype: u16, ttl: u32, data: Vec<u8>) {
        let Some(signer) = &mut self.signer else { return };
        match &mut signer.open {
            Some((_, set)) => set.data.push(data),
            open => *open = Some((section, RrSet { owner: owner.clone(), rtype, ttl, data: vec![data] })),
        }
    }

    /// Ends the last set. A reply whose signatures do not all fit is too long.
    pub(crate) fn finish(&mut self) -> Result<(), ReplyError> {
        self.close()?;
        match self.signer.as_mut().and_then(|s| s.failed.take()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), ReplyError> {
        let Some(signer) = &mut self.signer else { return Ok(()) };
        let Some((section, mut set)) = signer.open.take() else { return Ok(()) };
        set.sort();
        let signatures = signer.zone.sign(&set);
        let written = match signatures {
            None => Err(ReplyError::Unanswerable),
            Some(all) => all.iter().try_for_each(|data| {
                self.write(section, &set.owner, set.ttl, Data::Raw { rtype: TYPE_RRSIG, data })
            }),
        };
        if let (Err(error), Some(signer)) = (&written, &mut self.signer) {
            signer.failed = Some(*error);
        }
        written
    }
}
