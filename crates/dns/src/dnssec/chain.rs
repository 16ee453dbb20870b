//! Whether those who validate can come from the parent's DS to what this site signs.
//!
//! A site signs the key set with its own keys only (RFC 8901 §2.1.2). While the parent has the DS of other
//! sites and none of this one, all that is said here is bogus to a resolver that validates, signed or not: it
//! is better told nothing, and asks another name server.

use crate::dnssec::ZoneSigner;
use nearmost_core::registry::{KeyStage, ZoneKey};
use nearmost_core::time::UnixMillis;

/// What is said in a zone to those who validate.
#[derive(Debug)]
pub(crate) enum Signing {
    /// Nothing is signed: no site can be believed better than this one.
    Bare,
    /// Answers are signed.
    By(Box<ZoneSigner>),
    /// Only what other sites sign can be believed.
    Elsewhere,
}

/// How sure it is that resolvers find the DS of a site's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Link {
    /// No parent has heard of them, as far as is known.
    None,
    /// Caches may have one still.
    Cached,
    /// The parent has one.
    Parent,
}

/// The stages of some keys, as far as they matter here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Links {
    parent: bool,
    left: bool,
    retiring: bool,
}

impl Links {
    /// Takes one more key into account.
    pub(crate) fn add(&mut self, stage: KeyStage) {
        match stage {
            KeyStage::Active | KeyStage::Leaving => self.parent = true,
            KeyStage::Left => self.left = true,
            KeyStage::Retiring => self.retiring = true,
            KeyStage::Published | KeyStage::Ready | KeyStage::Removed => {}
        }
    }

    /// Of all of them.
    pub(crate) fn link(self) -> Link {
        match self {
            Links { parent: true, .. } => Link::Parent,
            // What came after the retiring one is gone from the parent, and that one was before.
            Links { left: true, .. } => Link::Cached,
            // The record of what came after it is not here yet.
            Links { retiring: true, .. } => Link::Parent,
            Links { .. } => Link::None,
        }
    }
}

/// In a zone with these keys, none of which is this site's.
pub(crate) fn without_own(keys: &[ZoneKey], now: UnixMillis) -> Signing {
    let mut others = Links::default();
    keys.iter().for_each(|key| others.add(key.life.at(now)));
    match others.link() {
        Link::None => Signing::Bare,
        Link::Cached | Link::Parent => Signing::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_alone_and_beside_every_other() {
        use KeyStage::{Active, Leaving, Left, Published, Ready, Removed, Retiring};
        let link = |stages: &[KeyStage]| {
            let mut links = Links::default();
            stages.iter().for_each(|s| links.add(*s));
            links.link()
        };
        let alone = [
            (Published, Link::None),
            (Ready, Link::None),
            (Active, Link::Parent),
            (Retiring, Link::Parent),
            (Leaving, Link::Parent),
            (Left, Link::Cached),
            (Removed, Link::None),
        ];
        assert_eq!(alone.map(|(stage, _)| stage), KeyStage::ALL);
        for (a, of_a) in alone {
            assert_eq!(link(&[a]), of_a, "{a:?}");
            for (b, of_b) in alone {
                let expected = match [a, b] {
                    [Retiring, Left] | [Left, Retiring] => Link::Cached,
                    _ => of_a.max(of_b),
                };
                assert_eq!(link(&[a, b]), expected, "{a:?} {b:?}");
            }
        }
        assert_eq!(link(&[]), Link::None);
    }
}
