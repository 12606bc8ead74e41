//! Says which group of a slice a key has.
//!
//! A slice that holds a good part of all keys uses the dictionary's numbers as they are: no look-up,
//! and another such slice is merged place by place. A slice that holds few of many keys numbers them
//! itself, so that it is as large as the keys it saw.

use std::borrow::Cow;

use hashbrown::HashMap;

/// Marks a key that is not there.
pub(super) const NONE: u32 = u32::MAX;
/// So many places are no waste, whoever uses them. Tests have few keys, and want both kinds.
const FEW: usize = if cfg!(test) { 3 } else { 1_024 };
/// A slice shares the dictionary's numbers if it holds one key in so many.
const SHARE: usize = 4;

/// From the dictionary's number of a key to the slice's group.
pub(super) enum Numbering {
    /// They are the same.
    Shared {
        /// Keys of the dictionary when this was last found right.
        checked: usize,
    },
    /// The slice has numbers of its own.
    Own(OwnNumbers),
}

impl Numbering {
    /// What suits a slice that may hold `expected` of `key_count` keys.
    pub(super) fn fit(expected: usize, key_count: usize) -> Numbering {
        if key_count <= FEW.max(expected.saturating_mul(SHARE)) {
            Numbering::Shared { checked: key_count }
        } else {
            Numbering::own()
        }
    }

    pub(super) fn own() -> Numbering {
        Numbering::Own(OwnNumbers::default())
    }

    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Numbering::Shared { .. })
    }

    /// The group of each key; keys that are new here get the next groups.
    pub(super) fn groups_of<'a>(
        &mut self,
        ids: Cow<'a, [u32]>,
        key_count: usize,
    ) -> Cow<'a, [u32]> {
        match self {
            Numbering::Shared { .. } => ids,
            Numbering::Own(own) => Cow::Owned(own.groups_of(&ids, key_count)),
        }
    }

    /// The group that a key has or would have; `None` where it has none.
    pub(super) fn group_of(&mut self, id: u32, key_count: usize) -> Option<u32> {
        match self {
            Numbering::Shared { .. } => Some(id),
            Numbering::Own(own) => own.group_of(id, key_count),
        }
    }

    /// Groups that there have to be.
    pub(super) fn group_count(&self, key_count: usize) -> usize {
        match self {
            Numbering::Shared { .. } => key_count,
            Numbering::Own(own) => own.ids.len(),
        }
    }

    /// The key of a group; `None` for one that was forgotten.
    pub(super) fn id_of(&self, group: u32) -> Option<u32> {
        match self {
            Numbering::Shared { .. } => Some(group),
            Numbering::Own(own) => Some(own.ids[group as usize]).filter(|&id| id != NONE),
        }
    }

    /// Whether the dictionary has outgrown a slice that uses its numbers for `live()` keys.
    pub(super) fn is_outgrown(&mut self, key_count: usize, live: impl FnOnce() -> usize) -> bool {
        let Numbering::Shared { checked } = self else { return false };
        if key_count <= FEW || key_count < 2 * *checked {
            return false;
        }
        *checked = key_count;
        live() * SHARE < key_count
    }

    /// Lets go of what can be built again.
    pub(super) fn rest(&mut self) {
        if let Numbering::Own(own) = self {
            own.index = LocalIndex::Absent;
        }
    }

    pub(super) fn size(&self) -> usize {
        let Numbering::Own(own) = self else { return 0 };
        let index = match &own.index {
            LocalIndex::Absent => 0,
            LocalIndex::Dense(table) => table.capacity() * 4,
            LocalIndex::Sparse(map) => map.allocation_size(),
        };
        index + own.ids.capacity() * 4
    }
}

/// Groups in the order in which their keys first came by.
#[derive(Default)]
pub(super) struct OwnNumbers {
    /// The key of each group; [`NONE`] for groups that were forgotten.
    pub(super) ids: Vec<u32>,
    forgotten: usize,
    index: LocalIndex,
}

/// From the dictionary's number of a key to the slice's own.
#[derive(Default)]
enum LocalIndex {
    /// Built when needed.
    #[default]
    Absent,
    /// For slices that hold a good part of all keys.
    Dense(Vec<u32>),
    /// For slices that hold few of many.
    Sparse(HashMap<u32, u32>),
}

impl OwnNumbers {
    pub(super) fn new(ids: Vec<u32>) -> OwnNumbers {
        OwnNumbers { ids, forgotten: 0, index: LocalIndex::Absent }
    }

    fn ready_index(&mut self, key_count: usize) {
        let dense = key_count < 65_536 || self.ids.len() * 16 >= key_count;
        match (&mut self.index, dense) {
            (LocalIndex::Dense(table), _) => {
                if table.len() < key_count {
                    table.resize(key_count, NONE);
                }
                return;
            }
            (LocalIndex::Sparse(_), false) => return,
            (LocalIndex::Absent | LocalIndex::Sparse(_), _) => {}
        }
        let groups = self.ids.iter().enumerate().filter(|(_, id)| **id != NONE);
        self.index = if dense {
            let mut table = vec![NONE; key_count];
            groups.for_each(|(group, &id)| table[id as usize] = group as u32);
            LocalIndex::Dense(table)
        } else {
            LocalIndex::Sparse(groups.map(|(group, &id)| (id, group as u32)).collect())
        };
    }

    fn groups_of(&mut self, keys: &[u32], key_count: usize) -> Vec<u32> {
        self.ready_index(key_count);
        let ids = &mut self.ids;
        let mut add = |id: u32| {
            ids.push(id);
            ids.len() as u32 - 1
        };
        let keys = keys.iter().copied();
        match &mut self.index {
            LocalIndex::Dense(table) => keys
                .map(|id| {
                    let entry = &mut table[id as usize];
                    if *entry == NONE {
                        *entry = add(id);
                    }
                    *entry
                })
                .collect(),
            LocalIndex::Sparse(map) => {
                keys.map(|id| *map.entry(id).or_insert_with(|| add(id))).collect()
            }
            LocalIndex::Absent => unreachable!("the index was made ready above"),
        }
    }

    fn group_of(&mut self, id: u32, key_count: usize) -> Option<u32> {
        self.ready_index(key_count);
        match &self.index {
            LocalIndex::Dense(table) => {
                table.get(id as usize).copied().filter(|&group| group != NONE)
            }
            LocalIndex::Sparse(map) => map.get(&id).copied(),
            LocalIndex::Absent => None,
        }
    }

    /// Keys and groups in the order that the dictionary gives, those for which `wanted` holds.
    pub(super) fn in_order(
        &self,
        (order, rank): (&[u32], &[u32]),
        wanted: impl Fn(u32) -> bool,
    ) -> (Vec<u32>, Vec<u32>) {
        let groups = self.ids.iter().enumerate().map(|(group, &id)| (id, group as u32));
        let groups = groups.filter(|&(id, group)| id != NONE && wanted(group));
        if self.ids.len() * 8 < order.len() {
            let mut ranked: Vec<(u32, u32)> =
                groups.map(|(id, group)| (rank[id as usize], group)).collect();
            ranked.sort_unstable();
            return ranked.into_iter().map(|(rank, group)| (order[rank as usize], group)).unzip();
        }
        // Most keys are there: walk all of them in order.
        let mut group_of = vec![NONE; order.len()];
        groups.for_each(|(id, group)| group_of[id as usize] = group);
        let all = order.iter().map(|&id| (id, group_of[id as usize]));
        all.filter(|&(_, group)| group != NONE).unzip()
    }

    /// Forgets the group of a key.
    pub(super) fn forget(&mut self, id: u32, key_count: usize) {
        let Some(group) = self.group_of(id, key_count) else { return };
        self.ids[group as usize] = NONE;
        self.forgotten += 1;
        match &mut self.index {
            LocalIndex::Dense(table) => table[id as usize] = NONE,
            LocalIndex::Sparse(map) => {
                map.remove(&id);
            }
            LocalIndex::Absent => {}
        }
    }

    /// Whether most groups were forgotten.
    pub(super) fn is_hollow(&self) -> bool {
        self.forgotten * 2 > self.ids.len()
    }

    /// Takes over new numbers of the dictionary.
    pub(super) fn renumber(&mut self, renumbered: &[u32]) {
        for id in self.ids.iter_mut().filter(|id| **id != NONE) {
            *id = renumbered[*id as usize];
        }
        self.index = LocalIndex::Absent;
    }
}
