//! Keeps the row that each group shows, as bytes.
//!
//! Rows whose columns all have a fixed width are equally long: they stand one behind the other, and a
//! group costs no allocation. Others are kept one by one.
//!
//! # State
//! Per group the width of a row and one byte; or 16 bytes, and where a row is shown its own.

use arrow::array::new_null_array;
use arrow::datatypes::DataType;
use arrow::row::RowConverter;

use crate::operators::operator::EvalError;
use crate::operators::portions::Chosen;
use crate::operators::state::{StateReader, StateWriter, misfit};

/// The rows that groups show.
#[derive(Clone)]
pub(super) enum Shown {
    /// Rows of one length.
    Fixed { width: usize, bytes: Vec<u8>, present: Vec<bool> },
    /// Rows of any length, and the bytes of all of them.
    Varying { rows: Vec<Option<Box<[u8]>>>, held: usize },
}

/// Rows one behind the other.
#[derive(Default)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Rows {
    fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }
}

impl Shown {
    /// For rows of these types as the converter writes them.
    pub(super) fn new(types: &[DataType], converter: &RowConverter) -> Result<Shown, EvalError> {
        let is_fixed = |data_type: &DataType| {
            data_type.is_primitive() || matches!(data_type, DataType::Boolean)
        };
        if !types.iter().all(is_fixed) {
            return Ok(Shown::Varying { rows: Vec::new(), held: 0 });
        }
        let width = if types.is_empty() {
            0
        } else {
            let nulls: Vec<_> = types.iter().map(|t| new_null_array(t, 1)).collect();
            converter.convert_columns(&nulls)?.row(0).as_ref().len()
        };
        Ok(Shown::Fixed { width, bytes: Vec::new(), present: Vec::new() })
    }

    pub(super) fn resize(&mut self, groups: usize) {
        match self {
            Shown::Fixed { width, bytes, present } => {
                bytes.resize(groups * *width, 0);
                present.resize(groups, false);
            }
            Shown::Varying { rows, .. } => rows.resize(groups, None),
        }
    }

    pub(super) fn get(&self, group: usize) -> Option<&[u8]> {
        match self {
            Shown::Fixed { width, bytes, present } => {
                present[group].then(|| &bytes[group * width..(group + 1) * width])
            }
            Shown::Varying { rows, .. } => rows[group].as_deref(),
        }
    }

    pub(super) fn is_some(&self, group: usize) -> bool {
        match self {
            Shown::Fixed { present, .. } => present[group],
            Shown::Varying { rows, .. } => rows[group].is_some(),
        }
    }

    /// Puts a row in the place of the one that was shown, which goes to `old`; whether there was one.
    pub(super) fn put(&mut self, group: usize, row: Option<&[u8]>, old: Option<&mut Rows>) -> bool {
        let was = self.is_some(group);
        if let (Some(shown), Some(old)) = (self.get(group), old) {
            old.push(shown);
        }
        match self {
            Shown::Fixed { width, bytes, present } => {
                if let Some(row) = row {
                    assert_eq!(row.len(), *width, "rows of these types are equally long");
                    bytes[group * *width..(group + 1) * *width].copy_from_slice(row);
                }
                present[group] = row.is_some();
            }
            Shown::Varying { rows, held } => {
                *held += row.map_or(0, <[u8]>::len);
                *held -= rows[group].as_ref().map_or(0, |row| row.len());
                rows[group] = row.map(Box::from);
            }
        }
        was
    }

    /// Group `groups[i]` becomes `i`.
    pub(super) fn keep(&mut self, groups: &[usize]) {
        match self {
            Shown::Fixed { width, bytes, present } => {
                let width = *width;
                let row = |&group: &usize| &bytes[group * width..(group + 1) * width];
                *bytes = groups.iter().flat_map(row).copied().collect();
                *present = groups.iter().map(|&group| present[group]).collect();
            }
            Shown::Varying { rows, held } => {
                *rows = groups.iter().map(|&group| rows[group].take()).collect();
                *held = rows.iter().flatten().map(|row| row.len()).sum();
            }
        }
    }

    pub(super) fn save(&self, chosen: &Chosen, out: &mut StateWriter) -> Result<(), EvalError> {
        match self {
            Shown::Varying { rows, .. } => chosen.put(rows, out),
            Shown::Fixed { width, bytes, present } => {
                chosen.put(present, out)?;
                match chosen {
                    Chosen::Run(run) => out.bytes(&bytes[run.start * width..run.end * width]),
                    Chosen::Listed(list) => list.iter().for_each(|&group| {
                        out.bytes(&bytes[group * width..(group + 1) * width]);
                    }),
                }
                Ok(())
            }
        }
    }

    pub(super) fn restore(
        &mut self,
        chosen: &Chosen,
        from: &mut StateReader<'_>,
    ) -> Result<(), EvalError> {
        match self {
            Shown::Varying { rows, held } => {
                let bytes = |rows: &[Option<Box<[u8]>>]| -> usize {
                    let shown = chosen.to_vec().into_iter().filter_map(|g| rows[g].as_ref());
                    shown.map(|row| row.len()).sum()
                };
                *held -= bytes(rows);
                chosen.get(rows, from)?;
                *held += bytes(rows);
                Ok(())
            }
            Shown::Fixed { width, bytes, present } => {
                chosen.get(present, from)?;
                let length = chosen.len().checked_mul(*width).ok_or_else(|| misfit("it ends"))?;
                let stored = from.bytes(length)?;
                match chosen {
                    Chosen::Run(run) => {
                        bytes[run.start * *width..run.end * *width].copy_from_slice(stored);
                    }
                    Chosen::Listed(list) if *width > 0 => {
                        for (&group, row) in list.iter().zip(stored.chunks_exact(*width)) {
                            bytes[group * *width..(group + 1) * *width].copy_from_slice(row);
                        }
                    }
                    Chosen::Listed(_) => {}
                }
                Ok(())
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Shown::Fixed { bytes, present, .. } => bytes.capacity() + present.capacity(),
            // An allocation of a few bytes takes about sixteen more.
            Shown::Varying { rows, held } => {
                rows.capacity() * size_of::<Option<Box<[u8]>>>() + held
            }
        }
    }
}
