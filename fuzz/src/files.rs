//! Configuration, geo databases, what was learned, the store and its copies.

use nearmost_broker::fuzzing as broker;
use nearmost_broker::geoip::GeoError;
use nearmost_broker::store::{self, AuditFilter, EventFilter, FILE_NAME, HistoryFilter, RedbStore, Store};
use nearmost_config::{AgentConfig, BrokerConfig, parse_setting};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Once, OnceLock};
use tempfile::TempDir;

thread_local! {
    /// Where files of this thread are written.
    static FOLDER: TempDir = folder();
}

/// In memory, where there is such a place: thousands of files are written a second.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}

/// A file of this thread with these bytes.
fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let path = FOLDER.with(|folder| folder.path().join(name));
    std::fs::write(&path, bytes).expect("the file is written");
    path
}

/// A configuration's file; after a line `#env` come variables, after a line `#set` settings.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (file, rest) = text.split_once("\n#env\n").unwrap_or((&text, ""));
    let (env, sets) = rest.split_once("\n#set\n").unwrap_or((rest, ""));
    let path = written("config.toml", file.as_bytes());
    let env = || {
        let pairs = env.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (format!("NEARMOST__{name}"), value.to_owned())).collect::<Vec<_>>()
    };
    let sets: Vec<_> = sets.lines().filter_map(|line| parse_setting(line).ok()).collect();
    let broker = BrokerConfig::load(Some(&path), env(), &sets).map(|config| format!("{config:?}"));
    let agent = AgentConfig::load(Some(&path), env(), &sets).map(|config| format!("{config:?}"));
    for error in [broker.err(), agent.err()].into_iter().flatten() {
        let said = error.to_string();
        assert!(!said.is_empty(), "{error:?}");
    }
}

/// A geo database: it is refused by name, or wherever it says that an address is, is on Earth.
pub fn geo(data: &[u8]) {
    const NAME: &str = "fuzz.mmdb";
    match broker::geo_database(NAME, data) {
        Err(error) => assert!(
            error.to_string().starts_with(NAME) && !matches!(error, GeoError::Uncompilable { .. }),
            "{error}"
        ),
        Ok((table, networks)) => {
            assert!(networks > 0);
            for address in [
                IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)),
                IpAddr::from(Ipv4Addr::UNSPECIFIED),
                IpAddr::from(Ipv4Addr::BROADCAST),
                IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
                IpAddr::from(Ipv6Addr::UNSPECIFIED),
            ] {
                if let Some(at) = table.locate(address).place.position {
                    let (lat, lon) = at.degrees();
                    assert!(lat.abs() <= 90.001 && lon.abs() <= 180.001, "{address}: {lat} {lon}");
                }
            }
        }
    }
}

/// What was learned. The fuzzer cannot guess a checksum, so what follows its place is summed up for it.
pub fn learned(data: &[u8]) {
    for bytes in [data.to_vec(), crate::seeds::summed(data)] {
        if let Ok(again) = broker::learned(&bytes) {
            let again = again.expect("what was decoded encodes");
            let twice = broker::learned(&again).expect("what was encoded decodes").expect("and encodes");
            // What is kept in maps is written in any order.
            assert_eq!(twice.len(), again.len());
        }
    }
}

/// A store whose file is damaged, and a copy of it that is to be restored. Each five bytes of the input are a
/// place, three bytes, and what is done there: with the rest of the file cut off, or its bytes changed.
///
/// Nothing panics but redb, of which the store makes an error; what was kept in a file that is sound comes back.
pub fn store(data: &[u8]) {
    static HOOK: Once = Once::new();
    HOOK.call_once(pass_by_redb);
    IN_STORE.set(true);
    OURS.set(None);
    damaged(data);
    IN_STORE.set(false);
    // The store caught it, as if it had been redb's.
    let ours = OURS.take();
    assert!(ours.is_none(), "a panic that is not redb's: {}", ours.unwrap_or_default());
}

thread_local! {
    /// Whether this thread is in the store's target.
    static IN_STORE: Cell<bool> = const { Cell::new(false) };
    /// The last panic there that was not redb's.
    static OURS: Cell<Option<String>> = const { Cell::new(None) };
}

/// Panics of redb in the store's target are nobody's business: libFuzzer's hook would end the process before they
/// are caught. All others go where they went before.
fn pass_by_redb() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let path = panic.location().map_or("", |at| at.file());
        match IN_STORE.get() {
            true if path.contains("/redb-") => return,
            true => OURS.set(Some(panic.to_string())),
            false => {}
        }
        before(panic);
    }));
}

fn damaged(data: &[u8]) {
    let whole = whole_store();
    let mut bytes = whole.to_vec();
    for patch in data.chunks_exact(5).take(64) {
        let at = u32::from_be_bytes([0, patch[0], patch[1], patch[2]]) as usize % whole.len();
        match patch[3] {
            0 => bytes.truncate(at),
            n if at + usize::from(n % 16) < bytes.len() => {
                bytes[at..at + usize::from(n % 16)].fill(patch[4]);
            }
            _ => {}
        }
    }
    let folder = folder();
    let backup = folder.path().join("backup");
    std::fs::write(&backup, &bytes).expect("the copy is written");
    let data_dir = folder.path().join("data");
    std::fs::create_dir(&data_dir).expect("a folder");
    match store::restore(&backup, &data_dir, false, 1) {
        Ok(restored) => {
            assert_eq!(restored.moved_aside, None);
            look(&data_dir, bytes == *whole);
        }
        Err(error) => assert!(bytes != *whole, "{error}"),
    }
    // As a broker finds it that starts on it.
    std::fs::write(data_dir.join(FILE_NAME), &bytes).expect("the store is written");
    look(&data_dir, bytes == *whole);
}

fn look(data_dir: &Path, sound: bool) {
    let store = match RedbStore::open(data_dir) {
        Ok(store) => store,
        Err(error) => return assert!(!sound, "{error}"),
    };
    let contents = store.contents();
    let history = store.history(&HistoryFilter { limit: 10, ..HistoryFilter::default() });
    let author = crate::seeds::records()[0].record().author;
    let _ = (store.version(), store.batch(1), store.author_position(&author), store.api_tokens());
    let _ = (store.check_token(&[1; 32], 1), store.load_verdicts(), store.get_meta("restored"));
    let _ =
        (store.log_epoch(), store.log_head(), store.log_after(0, 10, false), store.log_after(0, 10, true));
    let _ = (store.find_numbered(&author, 1, 1), store.load_peers(), store.load_evidence());
    // What reads longer, beside the store's thread.
    let _ = store.audit_page(AuditFilter { limit: 10, ..AuditFilter::default() }).and_then(|read| read());
    let _ = store.events_page(EventFilter { limit: 10, ..EventFilter::default() }).and_then(|read| read());
    let _ = store.newest_event();
    let copy = data_dir.join("copy");
    let copied = store.backup(&copy, true).and_then(|copy| copy());
    assert_eq!(copy.exists(), copied.is_ok());
    // What did not come to an end leaves nothing behind.
    for entry in std::fs::read_dir(data_dir).expect("the folder") {
        let name = entry.expect("an entry").file_name();
        assert!(!name.to_string_lossy().contains(".new-"), "{name:?}");
    }
    let _ = std::fs::remove_file(copy);
    if sound {
        // By what they are about, not as they were written.
        let mut records = contents.expect("it is sound").records;
        records.sort_by_key(|record| record.record().author_seq);
        assert_eq!(records, crate::seeds::records());
        assert_eq!(history.expect("it is sound").len(), crate::seeds::records().len());
        assert_eq!(copied, Ok(crate::seeds::records().len() as u64));
    }
}

/// The bytes of a small store.
fn whole_store() -> &'static [u8] {
    static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let folder = folder();
        let store = RedbStore::open(folder.path()).expect("a new store");
        for committed in store.commit_group(&[crate::seeds::batch()]) {
            committed.expect("it is committed");
        }
        store.save_verdicts(&[("a.b/c/v4".into(), b"{}".to_vec())]).expect("verdicts are kept");
        drop(store);
        std::fs::read(folder.path().join(FILE_NAME)).expect("the store is read")
    })
}
