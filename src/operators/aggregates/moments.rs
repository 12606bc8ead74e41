//! Computes variance, standard deviation, covariance and correlation from central moments.
//!
//! Per group the number of rows, the means of both arguments, and the sums of squared and of mixed
//! deviations from them, updated row by row (Welford 1962) and merged in pairs (Chan et al. 1979). The
//! answers are those of DataFusion's accumulators up to rounding. Why not these: merging a partial result
//! of theirs into nothing computes it anew, so that a query could not go on from a snapshot to the bit.
//! Here what is merged into nothing is copied.
//!
//! # State
//! 48 bytes per group.

use std::mem;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::compute;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::accumulator::{GroupedAggregate, Rows, cannot_retract};
use super::extreme::insertion;
use super::fold::{Evaluated, Fold, FoldRows, is_value};
use crate::operators::operator::EvalError;
use crate::operators::portions::Chosen;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// What is read from the moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statistic {
    /// Of one argument; with `root` the standard deviation.
    Variance { sample: bool, root: bool },
    /// Of two.
    Covariance { sample: bool },
    /// Of two.
    Correlation,
}

/// The moments of one group; y stays 0 where there is one argument.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Moments {
    count: i64,
    mean_x: f64,
    mean_y: f64,
    squares_x: f64,
    squares_y: f64,
    products: f64,
}

/// One of the statistics over all groups.
pub(super) struct MomentsFold {
    statistic: Statistic,
    groups: Vec<Moments>,
}

impl Statistic {
    fn of(function: &AggregateFunctionExpr) -> Option<Statistic> {
        let plain = !function.is_distinct() && function.order_bys().is_empty();
        if !plain || *function.field().data_type() != DataType::Float64 {
            return None;
        }
        Some(match function.fun().name() {
            "var" | "var_samp" => Statistic::Variance { sample: true, root: false },
            "var_pop" => Statistic::Variance { sample: false, root: false },
            "stddev" | "stddev_samp" => Statistic::Variance { sample: true, root: true },
            "stddev_pop" => Statistic::Variance { sample: false, root: true },
            "covar" | "covar_samp" => Statistic::Covariance { sample: true },
            "covar_pop" => Statistic::Covariance { sample: false },
            "corr" => Statistic::Correlation,
            _ => return None,
        })
    }

    fn arguments(self) -> usize {
        if matches!(self, Statistic::Variance { .. }) { 1 } else { 2 }
    }

    fn read(self, moments: &Moments) -> Option<f64> {
        let Moments { count, mean_x, mean_y, squares_x, squares_y, products } = *moments;
        let over = |sum: f64, sample: bool| {
            let divisor = if sample { count - 1 } else { count };
            (divisor > 0).then(|| sum / divisor as f64)
        };
        match self {
            Statistic::Variance { sample: false, .. } if count == 1 => Some(0.0),
            Statistic::Variance { sample, root } => {
                let variance = over(squares_x, sample)?;
                Some(if root { variance.sqrt() } else { variance })
            }
            Statistic::Covariance { sample } => over(products, sample),
            Statistic::Correlation if mean_x.is_nan() && mean_y.is_nan() => Some(f64::NAN),
            Statistic::Correlation => {
                let known = count > 1 && !mean_x.is_nan() && !mean_y.is_nan();
                let varies = known && squares_x != 0.0 && squares_y != 0.0;
                let n = count as f64;
                let (x, y) = ((squares_x / n).sqrt(), (squares_y / n).sqrt());
                varies.then(|| products / n / x / y)
            }
        }
    }
}

impl Moments {
    fn add(&mut self, x: f64, y: f64) {
        self.count += 1;
        let n = self.count as f64;
        let (from_x, from_y) = (x - self.mean_x, y - self.mean_y);
        self.mean_x += from_x / n;
        self.mean_y += from_y / n;
        self.squares_x += from_x * (x - self.mean_x);
        self.squares_y += from_y * (y - self.mean_y);
        self.products += from_x * (y - self.mean_y);
    }

    fn merge(&mut self, other: &Moments) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let n = a + b;
        let (apart_x, apart_y) = (self.mean_x - other.mean_x, self.mean_y - other.mean_y);
        self.count += other.count;
        self.mean_x = self.mean_x * a / n + other.mean_x * b / n;
        self.mean_y = self.mean_y * a / n + other.mean_y * b / n;
        self.squares_x += other.squares_x + apart_x * apart_x * a * b / n;
        self.squares_y += other.squares_y + apart_y * apart_y * a * b / n;
        self.products += other.products + apart_x * apart_y * a * b / n;
    }
}

impl Stored for Moments {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.count.store(out)?;
        let rest = [self.mean_x, self.mean_y, self.squares_x, self.squares_y, self.products];
        f64::store_all(&rest, out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let count = from.get()?;
        let mut rest = [0.0; 5];
        f64::load_all(&mut rest, from)?;
        let [mean_x, mean_y, squares_x, squares_y, products] = rest;
        Ok(Moments { count, mean_x, mean_y, squares_x, squares_y, products })
    }
}

impl MomentsFold {
    /// The statistic that the function is; `None` if it is none of ours.
    pub(super) fn of(function: &AggregateFunctionExpr) -> Option<MomentsFold> {
        let statistic = Statistic::of(function)?;
        let fits = function.expressions().len() == statistic.arguments();
        fits.then(|| MomentsFold { statistic, groups: Vec::new() })
    }

    /// Adds the rows that `weight` lets in and that have all arguments.
    fn add(
        &mut self,
        arguments: &[ArrayRef],
        rows: usize,
        group_of: impl Fn(usize) -> usize,
        weight: impl Fn(usize) -> i64,
    ) -> Result<bool, EvalError> {
        let columns = arguments[..self.statistic.arguments()]
            .iter()
            .map(|column| compute::cast(column, &DataType::Float64))
            .collect::<Result<Vec<_>, _>>()?;
        let xs = columns[0].as_primitive::<Float64Type>();
        let ys = columns.get(1).map(|column| column.as_primitive::<Float64Type>());
        let are_values: Vec<_> = columns.iter().map(is_value).collect();
        let mut retracted = false;
        for row in 0..rows {
            let times = weight(row);
            retracted |= times < 0;
            if times > 0 && are_values.iter().all(|is_value| is_value(row)) {
                let moments = &mut self.groups[group_of(row)];
                let (x, y) = (xs.value(row), ys.map_or(0.0, |ys| ys.value(row)));
                (0..times).for_each(|_| moments.add(x, y));
            }
        }
        Ok(retracted)
    }

    fn results(&self, groups: impl Iterator<Item = usize>) -> ArrayRef {
        let results = groups.map(|group| self.statistic.read(&self.groups[group]));
        Arc::new(results.collect::<Float64Array>())
    }

    fn columns(&self, groups: impl Iterator<Item = usize>) -> Vec<ArrayRef> {
        let chosen: Vec<Moments> = groups.map(|group| self.groups[group]).collect();
        let floats = |of: fn(&Moments) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(chosen.iter().map(of)))
        };
        vec![
            Arc::new(Int64Array::from_iter_values(chosen.iter().map(|moments| moments.count))),
            floats(|moments| moments.mean_x),
            floats(|moments| moments.mean_y),
            floats(|moments| moments.squares_x),
            floats(|moments| moments.squares_y),
            floats(|moments| moments.products),
        ]
    }

    fn grow(&mut self, groups: usize) {
        if self.groups.len() < groups {
            self.groups.resize(groups, Moments::default());
        }
    }
}

impl Fold for MomentsFold {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, Moments::default());
    }

    fn update(&mut self, rows: &FoldRows<'_>) -> Result<(), EvalError> {
        let weight = |row| rows.weight(row);
        match self.add(rows.arguments, rows.groups.len(), |row| rows.groups[row], weight)? {
            true => insertion(-1).map(|_| ()),
            false => Ok(()),
        }
    }

    fn evaluate(&mut self, groups: &[usize]) -> Result<Evaluated, EvalError> {
        Ok(Evaluated::all(self.results(groups.iter().copied())))
    }

    fn is_empty(&self, group: usize) -> bool {
        self.groups[group].count == 0
    }

    fn clear(&mut self, group: usize) {
        self.groups[group] = Moments::default();
    }

    fn keep(&mut self, groups: &[usize]) {
        self.groups = groups.iter().map(|&group| self.groups[group]).collect();
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * mem::size_of::<Moments>()
    }

    fn save(&mut self, chosen: &Chosen, out: &mut StateWriter) -> Result<(), EvalError> {
        chosen.put(&self.groups, out)
    }

    fn restore(&mut self, chosen: &Chosen, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        chosen.get(&mut self.groups, from)
    }
}

impl GroupedAggregate for MomentsFold {
    fn update(&mut self, values: &[ArrayRef], rows: &Rows<'_>) -> Result<(), EvalError> {
        self.grow(rows.group_count);
        let weight = |row| rows.weight(row);
        let group_of = |row: usize| rows.groups[row] as usize;
        match self.add(values, rows.groups.len(), group_of, weight)? {
            true => Err(cannot_retract("variance, covariance or correlation")),
            false => Ok(()),
        }
    }

    fn merge(
        &mut self,
        state: &[ArrayRef],
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), EvalError> {
        self.grow(group_count);
        let counts = state[0].as_primitive::<Int64Type>();
        let floats = |column: usize| state[column].as_primitive::<Float64Type>();
        let (mean_x, mean_y, squares_x) = (floats(1), floats(2), floats(3));
        let (squares_y, products) = (floats(4), floats(5));
        for (row, &group) in groups.iter().enumerate() {
            self.groups[group as usize].merge(&Moments {
                count: counts.value(row),
                mean_x: mean_x.value(row),
                mean_y: mean_y.value(row),
                squares_x: squares_x.value(row),
                squares_y: squares_y.value(row),
                products: products.value(row),
            });
        }
        Ok(())
    }

    fn reads_groups(&self) -> bool {
        true
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        Ok(self.columns(0..self.groups.len()))
    }

    fn state_of(&mut self, groups: &[u32]) -> Result<Vec<ArrayRef>, EvalError> {
        Ok(self.columns(groups.iter().map(|&group| group as usize)))
    }

    fn take_state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        let state = self.columns(0..self.groups.len());
        self.groups = Vec::new();
        Ok(state)
    }

    fn evaluate(&mut self) -> Result<ArrayRef, EvalError> {
        let results = self.results(0..self.groups.len());
        self.groups = Vec::new();
        Ok(results)
    }

    fn evaluate_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        Ok(self.results(groups.iter().map(|&group| group as usize)))
    }

    fn group_count(&self) -> usize {
        self.groups.len()
    }

    fn size(&self) -> usize {
        mem::size_of::<MomentsFold>() + self.groups.capacity() * mem::size_of::<Moments>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Statistic; 4] = [
        Statistic::Variance { sample: true, root: false },
        Statistic::Variance { sample: false, root: true },
        Statistic::Covariance { sample: true },
        Statistic::Correlation,
    ];

    /// The textbook's way, in two passes.
    fn by_hand(rows: &[(f64, f64)], statistic: Statistic) -> Option<f64> {
        let n = rows.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| rows.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean(|row| row.0), mean(|row| row.1));
        let squares: f64 = rows.iter().map(|row| (row.0 - x).powi(2)).sum();
        let squares_y: f64 = rows.iter().map(|row| (row.1 - y).powi(2)).sum();
        let products: f64 = rows.iter().map(|row| (row.0 - x) * (row.1 - y)).sum();
        match (statistic, rows.len()) {
            (_, 0) => None,
            (Statistic::Variance { sample: false, .. }, _) => Some((squares / n).sqrt()),
            (_, 1) => None,
            (Statistic::Variance { .. }, _) => Some(squares / (n - 1.0)),
            (Statistic::Covariance { .. }, _) => Some(products / (n - 1.0)),
            (Statistic::Correlation, _) if squares == 0.0 || squares_y == 0.0 => None,
            (Statistic::Correlation, _) => Some(products / (squares * squares_y).sqrt()),
        }
    }

    fn moments(rows: &[(f64, f64)]) -> Moments {
        let mut moments = Moments::default();
        rows.iter().for_each(|&(x, y)| moments.add(x, y));
        moments
    }

    proptest! {
        #[test]
        fn rows_one_by_one_and_merged_come_to_what_the_textbook_says(
            rows in proptest::collection::vec((-50_i32..50, -50_i32..50), 0..40),
            cut in 0_usize..40,
        ) {
            let rows: Vec<(f64, f64)> =
                rows.into_iter().map(|(x, y)| (f64::from(x), f64::from(y))).collect();
            let (left, right) = rows.split_at(cut.min(rows.len()));
            let mut merged = moments(left);
            merged.merge(&moments(right));
            for statistic in ALL {
                let expected = by_hand(&rows, statistic);
                for found in [statistic.read(&moments(&rows)), statistic.read(&merged)] {
                    // Where all values are equal the merged ones may differ by a rounding.
                    let (a, b) = (expected.unwrap_or(0.0), found.unwrap_or(0.0));
                    let near = (a - b).abs() < 1e-6 * (1.0 + a.abs());
                    prop_assert!(near || expected.is_none(), "{statistic:?}: {expected:?} {found:?}");
                }
            }
        }

        #[test]
        fn what_is_merged_into_nothing_is_the_same_to_the_bit(
            rows in proptest::collection::vec((any::<f64>(), any::<f64>()), 0..20),
        ) {
            let whole = moments(&rows);
            let mut copy = Moments::default();
            copy.merge(&whole);
            let bits = |m: &Moments| [m.mean_x, m.mean_y, m.squares_x, m.products].map(f64::to_bits);
            prop_assert_eq!(bits(&copy), bits(&whole));
        }
    }
}
