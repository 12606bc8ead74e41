//! Renumbers groups in the order of their first rows.
//!
//! DataFusion's `GroupValues` over several columns numbers the new groups of a batch in that order
//! only as long as no two of them share a hash. Two that do are enough: rows that differ only in
//! which of two columns is null have one hash, and the later group is numbered after all others of
//! the batch. Then numbers would depend on how rows were cut into batches.

/// Maps the numbers that `GroupValues` gives to ours.
#[derive(Debug, Default)]
pub(super) struct FirstSeen {
    /// Our number of each of theirs; `None` while both are the same.
    ours: Option<Vec<usize>>,
}

impl FirstSeen {
    /// Renumbers a batch's groups in place, `known` groups being known before it. Gives the first row
    /// of each new group, ascending.
    pub(super) fn renumber(&mut self, groups: &mut [usize], known: usize) -> Vec<u32> {
        let mut firsts = Vec::new();
        let mut row = 0;
        if self.ours.is_none() {
            while row < groups.len() && groups[row] <= known + firsts.len() {
                if groups[row] == known + firsts.len() {
                    firsts.push(row as u32);
                }
                row += 1;
            }
            if row == groups.len() {
                return firsts;
            }
        }
        let ours = self.ours.get_or_insert_with(|| (0..known + firsts.len()).collect());
        for (row, group) in groups.iter_mut().enumerate().skip(row) {
            if ours.len() <= *group {
                ours.resize(*group + 1, usize::MAX);
            }
            if ours[*group] == usize::MAX {
                ours[*group] = known + firsts.len();
                firsts.push(row as u32);
            }
            *group = ours[*group];
        }
        firsts
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.ours.as_ref().map_or(0, |ours| ours.capacity() * size_of::<usize>())
    }
}

#[cfg(test)]
mod tests {
    use super::FirstSeen;

    fn check(batches: &[&[usize]], expected: &[&[usize]]) {
        let (mut seen, mut known) = (FirstSeen::default(), 0);
        for (batch, expected) in batches.iter().zip(expected) {
            let mut groups = batch.to_vec();
            let firsts = seen.renumber(&mut groups, known);
            assert_eq!(groups, *expected);
            for (i, row) in firsts.iter().enumerate() {
                assert_eq!(groups[*row as usize], known + i);
            }
            known += firsts.len();
        }
    }

    #[test]
    fn groups_in_order_keep_their_numbers() {
        check(&[&[0, 1, 0, 2], &[], &[1, 3, 3, 4]], &[&[0, 1, 0, 2], &[], &[1, 3, 3, 4]]);
    }

    #[test]
    fn groups_out_of_order_are_renumbered_then_and_for_ever() {
        check(
            &[&[0, 1], &[1, 4, 2, 4, 3], &[3, 4, 5, 0], &[7, 6]],
            &[&[0, 1], &[1, 2, 3, 2, 4], &[4, 2, 5, 0], &[6, 7]],
        );
    }
}
