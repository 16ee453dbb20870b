//! What two stores tell each other to find what they differ in, as messages are encoded for the line.
//!
//! Records themselves are not counted: they have to be sent in any case.

use crate::figure::{Figure, Taken};
use crate::meter::thread_cpu_ns;
use crate::random::Random;
use anyhow::{Context, Result, bail};
use nearmost_replica::compare::Comparison;
use nearmost_replica::digest::{DigestTree, Prefix, Slot};
use nearmost_replica::message::Message;
use nearmost_replica::set::Tree;
use nearmost_wire::frame;

/// In how many statements the stores differ.
const DIFFERENCES: [usize; 5] = [0, 1, 10, 100, 1000];
/// The target, in bytes both ways: one hash and the word that it is equal, framed …
const EQUAL_BYTES: f64 = 64.0;
/// … or so many for each difference: five levels of sixteen hashes and a leaf.
const BYTES_A_DIFFERENCE: f64 = 2048.0;
/// Round trips for one difference: the root, five levels, the records.
const ROUND_TRIPS: f64 = 8.0;

/// What one comparison took.
#[derive(Default)]
struct Walk {
    out: usize,
    back: usize,
    round_trips: u32,
    found: usize,
}

impl Walk {
    fn sent(&mut self, message: &Message) -> Result<()> {
        self.out += frame::encode(message)?.len();
        Ok(())
    }

    fn answered(&mut self, message: &Message) -> Result<()> {
        self.back += frame::encode(message)?.len();
        Ok(())
    }
}

/// Takes the figures.
pub async fn run(slots: usize) -> Result<Taken> {
    tokio::task::spawn_blocking(move || figures(slots)).await?
}

fn figures(slots: usize) -> Result<Taken> {
    let mut taken = Taken::new("digest");
    let mut random = Random::new(1);
    let mut hash = || {
        let (a, b) = (random.next(), random.next());
        (u128::from(a) << 64 | u128::from(b)).to_be_bytes()
    };
    let mut ours = DigestTree::default();
    let all: Vec<Slot> = (0..slots).map(|_| Slot(hash())).collect();
    for slot in &all {
        ours.insert(*slot, hash());
    }
    let before = thread_cpu_ns();
    ours.refresh();
    taken.figures.push(Figure::told("every hash made anew", (thread_cpu_ns() - before) / 1e6, "ms CPU"));
    for differences in DIFFERENCES {
        let (mut left, mut right) = (ours.clone(), ours.clone());
        for (n, slot) in all.iter().step_by((slots / differences.max(1)).max(1)).take(differences).enumerate()
        {
            match n % 4 {
                0 | 1 => right.insert(*slot, hash()),
                2 => right.remove(*slot),
                _ => left.remove(*slot),
            }
        }
        let before = thread_cpu_ns();
        left.refresh();
        right.refresh();
        let walk = compare(&left, &right)?;
        let cpu_us = (thread_cpu_ns() - before) / 1e3;
        if walk.found != differences {
            bail!("{} of {differences} differences were found", walk.found);
        }
        push(&mut taken, differences, &walk, cpu_us);
    }
    taken.notes.push(format!(
        "{slots} statements in each store; of the differences half are other versions, a quarter each is in \
         one store only; a round trip is a batch of all requests that may be open at once"
    ));
    Ok(taken)
}

fn push(taken: &mut Taken, differences: usize, walk: &Walk, cpu_us: f64) {
    let what = |of: &str| format!("{differences} differ: {of}");
    let bytes = (walk.out + walk.back) as f64;
    let most = if differences == 0 { EQUAL_BYTES } else { BYTES_A_DIFFERENCE * differences as f64 };
    taken.figures.push(Figure::of(what("bytes both ways"), bytes, "bytes", most));
    taken.figures.push(Figure::told(what("of them from who began"), walk.out as f64, "bytes"));
    let trips = f64::from(walk.round_trips);
    let told = what("round trips");
    taken.figures.push(match differences {
        0 => Figure::of(told, trips, "", 1.0),
        1 => Figure::of(told, trips, "", ROUND_TRIPS),
        _ => Figure::told(told, trips, ""),
    });
    taken.figures.push(Figure::told(what("CPU of both, hashes of the changes included"), cpu_us, "µs"));
}

/// One comparison as the brokers do it, without the line.
fn compare(ours: &DigestTree, theirs: &DigestTree) -> Result<Walk> {
    let tree = Tree::Rest;
    let (mut walk, mut comparison) = (Walk::default(), Comparison::new(tree, 0));
    let mut found = std::collections::BTreeSet::new();
    walk.sent(&comparison.opening(ours))?;
    walk.round_trips += 1;
    if ours.root() == theirs.root() {
        walk.answered(&Message::Same { tree })?;
        comparison.same()?;
    } else {
        found.extend(told(&mut walk, &mut comparison, (ours, theirs), Prefix::ROOT)?);
    }
    loop {
        let requests: Vec<Message> = std::iter::from_fn(|| comparison.next_request()).collect();
        if requests.is_empty() {
            break;
        }
        walk.round_trips += 1;
        for request in requests {
            walk.sent(&request)?;
            let fetched: Vec<Slot> = match request {
                Message::Ask { parts, .. } => {
                    for part in parts {
                        found.extend(told(&mut walk, &mut comparison, (ours, theirs), part)?);
                    }
                    continue;
                }
                Message::Take { part, .. } => {
                    theirs.range(part, part.first(), usize::MAX).iter().map(|item| item.0).collect()
                }
                Message::Fetch { slots, .. } => slots,
                other => bail!("a comparison asks with {}", other.label()),
            };
            walk.answered(&Message::Records { tree, records: Vec::new(), done: true })?;
            comparison.received(fetched.len(), true)?;
            comparison.stored(fetched.len(), fetched.len(), 0);
            found.extend(fetched);
        }
    }
    walk.sent(&Message::Finished { tree })?;
    comparison.is_finished().then_some(()).context("the comparison does not end")?;
    walk.found = found.len();
    Ok(walk)
}

/// The other's view of a part; returns what it lacks.
fn told(
    walk: &mut Walk,
    comparison: &mut Comparison,
    (ours, theirs): (&DigestTree, &DigestTree),
    part: Prefix,
) -> Result<Vec<Slot>> {
    let view = theirs.view(part);
    walk.answered(&Message::Told { tree: comparison.tree(), part, view: view.clone() })?;
    Ok(comparison.told(ours, part, &view)?)
}
