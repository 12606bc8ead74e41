//! Walks over all sets of items that a trie holds and that transactions contain, each once.
//!
//! The trie is the paper's: its nodes in preorder, each with its depth and its item, so a set is a node
//! with the nodes above it. Numbers of items ascend on the way down and from sibling to sibling. A
//! walk goes down the trie and through the transactions together: below a set it counts the items
//! that follow the set in its transactions, so nothing is tried that does not occur.

/// One set: the items of the nodes above it, and its own, which is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node {
    /// Items in the set, less one.
    pub depth: u32,
    /// The greatest item.
    pub item: u32,
    /// Transactions counted since the set was entered.
    pub count: u64,
    /// Transactions before that, at most.
    pub missed: u64,
}

/// Transactions, each an ascending run of items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Transactions {
    /// All runs, one behind the other.
    pub items: Vec<u32>,
    /// Where each run ends.
    pub ends: Vec<u32>,
}

impl Transactions {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn push(&mut self, items: impl IntoIterator<Item = u32>) {
        self.items.extend(items);
        self.ends.push(self.items.len() as u32);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let run = &self.items[start..*end as usize];
            start = *end as usize;
            run
        })
    }

    /// The first `count`, which go.
    pub(super) fn split_front(&mut self, count: usize) -> Transactions {
        let cut = self.ends[count - 1];
        let behind = self.items.split_off(cut as usize);
        let ends = self.ends[count..].iter().map(|end| end - cut).collect();
        let front = std::mem::replace(self, Transactions { items: behind, ends });
        Transactions { items: front.items, ends: front.ends[..count].to_vec() }
    }

    pub(super) fn size(&self) -> usize {
        (self.items.capacity() + self.ends.capacity()) * size_of::<u32>()
    }
}

/// A walk was given up: too many sets, or too long transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuch;

/// What becomes of a set that the trie held (`Some`: count and missed) or not, and that the
/// transactions contain so many times. `None`: it goes, and all larger ones with it.
pub(super) type Keep<'a> = &'a dyn Fn(Option<(u64, u64)>, u64) -> Option<(u64, u64)>;

/// How far a walk goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Items in a set.
    pub size_max: u32,
    /// Sets that are kept.
    pub sets_max: usize,
}

/// Pairs of items, the first of which is kept, that a walk looks at.
const PAIRS_MAX: u64 = 4_000_000_000;

/// The sets that `keep` keeps, in preorder.
pub(super) fn walk(
    nodes: &[Node],
    transactions: &Transactions,
    item_count: usize,
    limits: Limits,
    keep: Keep<'_>,
) -> Result<Vec<Node>, TooMuch> {
    let Limits { size_max, sets_max } = limits;
    let counts = vec![vec![0; item_count]; size_max as usize];
    let items = transactions.items.as_slice();
    let mut walk = Walk { items, size_max, sets_max, keep, counts, kept: Vec::new() };
    let mut start = 0;
    let runs: Vec<(u32, u32)> =
        transactions.ends.iter().map(|end| (std::mem::replace(&mut start, *end), *end)).collect();
    walk.level(0, nodes, &runs)?;
    Ok(walk.kept)
}

struct Walk<'a> {
    items: &'a [u32],
    size_max: u32,
    sets_max: usize,
    keep: Keep<'a>,
    /// Per depth, for each item how often it follows the set above; 0 between levels.
    counts: Vec<Vec<u32>>,
    kept: Vec<Node>,
}

/// A set one larger: its place in the trie, if it has one, and whether it is kept.
struct Candidate {
    item: u32,
    occurs: u32,
    /// The node's children in the trie.
    children: (usize, usize),
    kept: Option<(u64, u64)>,
}

impl Walk<'_> {
    /// Extends a set by one item. `nodes` are those below it; `runs` what follows it, by transaction.
    fn level(&mut self, depth: u32, nodes: &[Node], runs: &[(u32, u32)]) -> Result<(), TooMuch> {
        let candidates = self.candidates(depth, nodes, runs);
        if depth + 1 == self.size_max {
            for candidate in &candidates {
                self.push(depth, candidate)?;
            }
            return Ok(());
        }
        if depth == 0 && self.pairs(&candidates, runs) > PAIRS_MAX {
            return Err(TooMuch);
        }
        let following = self.deliver(depth, &candidates, runs);
        for (candidate, runs) in candidates.iter().zip(&following) {
            if candidate.kept.is_some() {
                self.push(depth, candidate)?;
                let (start, end) = candidate.children;
                self.level(depth + 1, &nodes[start..end], runs)?;
            }
        }
        Ok(())
    }

    /// Pairs of items that the next level looks at: those behind each kept one.
    fn pairs(&mut self, candidates: &[Candidate], runs: &[(u32, u32)]) -> u64 {
        let kept = &mut self.counts[0];
        candidates.iter().for_each(|candidate| kept[candidate.item as usize] = 1);
        let behind = |(start, end): &(u32, u32)| {
            let items = &self.items[*start as usize..*end as usize];
            let kept = items.iter().zip(1..).filter(|(item, _)| kept[**item as usize] == 1);
            kept.map(|(_, at)| items.len() as u64 - at).sum::<u64>()
        };
        let pairs = runs.iter().map(behind).sum();
        candidates.iter().for_each(|candidate| kept[candidate.item as usize] = 0);
        pairs
    }

    fn push(&mut self, depth: u32, candidate: &Candidate) -> Result<(), TooMuch> {
        if let Some((count, missed)) = candidate.kept {
            if self.kept.len() == self.sets_max {
                return Err(TooMuch);
            }
            self.kept.push(Node { depth, item: candidate.item, count, missed });
        }
        Ok(())
    }

    /// The items that follow the set, in the trie or in a transaction, ascending.
    fn candidates(&mut self, depth: u32, nodes: &[Node], runs: &[(u32, u32)]) -> Vec<Candidate> {
        let counts = &mut self.counts[depth as usize];
        let mut found: Vec<u32> = Vec::new();
        for (start, end) in runs {
            for item in &self.items[*start as usize..*end as usize] {
                let count = &mut counts[*item as usize];
                if *count == 0 {
                    found.push(*item);
                }
                *count += 1;
            }
        }
        found.sort_unstable();
        let mut found = found.into_iter().peekable();
        let mut candidates = Vec::new();
        let mut at = 0;
        while at < nodes.len() || found.peek().is_some() {
            let item = match (nodes.get(at), found.peek()) {
                (Some(node), Some(other)) => node.item.min(*other),
                (Some(node), None) => node.item,
                (None, other) => *other.expect("one of both is left"),
            };
            found.next_if_eq(&item);
            let occurs = std::mem::take(&mut counts[item as usize]);
            let mut children = (at, at);
            let mut entry = None;
            if let Some(node) = nodes.get(at).filter(|node| node.item == item) {
                entry = Some((node.count, node.missed));
                let below = nodes[at + 1..].iter().take_while(|below| below.depth > depth);
                children = (at + 1, at + 1 + below.count());
                at = children.1;
            }
            let kept = (self.keep)(entry, u64::from(occurs));
            if kept.is_some() {
                candidates.push(Candidate { item, occurs, children, kept });
            }
        }
        candidates
    }

    /// For each candidate what follows it, by transaction.
    fn deliver(
        &mut self,
        depth: u32,
        candidates: &[Candidate],
        runs: &[(u32, u32)],
    ) -> Vec<Vec<(u32, u32)>> {
        let places = &mut self.counts[depth as usize];
        let room = |candidate: &Candidate| Vec::with_capacity(candidate.occurs as usize);
        let mut following: Vec<Vec<(u32, u32)>> = candidates.iter().map(room).collect();
        for (place, candidate) in candidates.iter().enumerate() {
            places[candidate.item as usize] = place as u32 + 1;
        }
        for (start, end) in runs {
            for at in *start..*end {
                let place = places[self.items[at as usize] as usize];
                if place > 0 && at + 1 < *end {
                    following[place as usize - 1].push((at + 1, *end));
                }
            }
        }
        candidates.iter().for_each(|candidate| places[candidate.item as usize] = 0);
        following
    }
}
