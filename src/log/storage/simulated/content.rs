//! What stands in a file: as programs see it, as it is durable, and the edits between the two.

/// A file's content.
#[derive(Debug, Default, Clone)]
pub(super) struct Content {
    pub(super) current: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Made since the last sync; the next one makes them durable.
    pub(super) pending: Vec<Edit>,
    /// Caught in a failed sync; only power loss decides about them.
    pub(super) doubtful: Vec<Edit>,
}

/// One change.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    Write { position: u64, bytes: Vec<u8> },
    Length(u64),
}

/// A small generator (splitmix64), so that one seed decides what power loss leaves.
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides.max(1)
    }
}

fn place(position: u64) -> usize {
    usize::try_from(position).expect("simulated files are small")
}

impl Content {
    /// A durable content.
    pub(super) fn durable(bytes: Vec<u8>) -> Content {
        Content { current: bytes.clone(), durable: bytes, ..Content::default() }
    }

    pub(super) fn edit(&mut self, edit: Edit) {
        edit.apply(&mut self.current);
        self.pending.push(edit);
    }

    /// Makes what was edited durable; a failed sync leaves it in doubt for ever.
    pub(super) fn sync(&mut self, fails: bool) {
        let pending = std::mem::take(&mut self.pending);
        if fails {
            self.doubtful.extend(pending);
            return;
        }
        for edit in pending {
            edit.apply(&mut self.durable);
        }
    }

    /// What power loss leaves.
    pub(super) fn after_power_loss(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for edit in self.doubtful.iter().chain(&self.pending) {
            edit.survive(&mut bytes, dice);
        }
        bytes
    }

    /// Turns a bit over, on the disk and in the page cache.
    pub(super) fn flip(&mut self, position: usize, bit: u8) {
        for bytes in [&mut self.current, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(position) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }
}

impl Edit {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Edit::Write { position, bytes } => {
                let start = place(*position);
                if to.len() < start + bytes.len() {
                    to.resize(start + bytes.len(), 0);
                }
                to[start..start + bytes.len()].copy_from_slice(bytes);
            }
            Edit::Length(length) => to.resize(place(*length), 0),
        }
    }

    /// What power loss makes of an edit that was not synced: it is kept, dropped or torn.
    fn survive(&self, to: &mut Vec<u8>, dice: &mut Dice) {
        let fate = dice.roll(4);
        match self {
            Edit::Length(_) if fate < 2 => self.apply(to),
            Edit::Write { .. } if fate == 0 => self.apply(to),
            Edit::Write { position, bytes } if fate < 3 && !bytes.is_empty() => {
                let cut = place(dice.roll(bytes.len() as u64));
                let (position, bytes) = if fate == 1 {
                    (*position, bytes[..cut].to_vec())
                } else {
                    // The device may also write the later part first.
                    (*position + cut as u64, bytes[cut..].to_vec())
                };
                Edit::Write { position, bytes }.apply(to);
            }
            Edit::Length(_) | Edit::Write { .. } => {}
        }
    }
}
