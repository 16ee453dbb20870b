//! How many files this process may open: a connection is a file.
//!
//! Programs that use `select` break beyond 1024, and so systems give that as the soft limit to all, and a much
//! greater hard one for those that know better. These do.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one, and says so; where it cannot, it is as before.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let Some(raised) = raised(limit) else { return };
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    let (from, to) = (shown(limit.current), shown(raised.current));
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => tracing::info!(from, to, "more files may be open: the soft limit is the hard one now"),
        Err(e) => tracing::warn!(from, to, error = %e, "the limit of open files stays as it is"),
    }
}

/// What to ask for; `None` where that is so already.
fn raised(limit: Rlimit) -> Option<Rlimit> {
    (limit.current != limit.maximum).then_some(Rlimit { current: limit.maximum, maximum: limit.maximum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let of = |current, maximum| Rlimit { current, maximum };
        assert_eq!(raised(of(Some(1024), Some(4096))), Some(of(Some(4096), Some(4096))));
        assert_eq!(raised(of(Some(1024), None)), Some(of(None, None)));
        assert_eq!(raised(of(Some(4096), Some(4096))), None);
        raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
