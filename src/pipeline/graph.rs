//! Holds the operators of one query as a tree, and carries outputs from each to its parent.
//!
//! Outputs travel depth first: whatever an operator emits reaches the root, in order, before the
//! next output moves. The way is kept on a stack of our own, so a plan of a thousand nodes costs no
//! call depth. Timers and ends of steps run from the leaves up, so that what a child emits at the end
//! of a step is still part of it above.
//!
//! # Invariants
//!
//! 1. A parent is added before its children, so its index is smaller.
//! 2. The watermark on a port never goes back, and is delivered once.
//!
//! # Not here
//!
//! Reading logs and writing changelogs ([`crate::pipeline`]'s driver); building operators of a plan; their state in
//! snapshots (`graph_state`).

use std::sync::Arc;

use crate::data::change::Change;
use crate::data::punctuation::Punctuation;
use crate::operators::operator::{Current, Emitter, EvalError, Operator, Output, bytes_of};
use crate::pipeline::figures::{OperatorFigures, RowCount, StepOutput};
use crate::time::EventTime;

/// An input of an operator: its node and port. `None` is the graph's own output.
pub type Target = Option<(usize, usize)>;

/// The operators of one query.
pub struct Graph {
    pub(super) nodes: Vec<Node>,
    sources: Vec<Target>,
    /// Leaves first; empty while it has to be worked out anew.
    order: Vec<usize>,
    /// What came out since it was taken last.
    pub(super) output: StepOutput,
    /// Bytes of rows that are on their way, or wait to be taken.
    alive: u64,
    /// So many of them do not count: what the operators were given, and what waited before.
    given: u64,
    /// The watermark that reached the output.
    pub(super) watermark: EventTime,
    /// Reused between calls.
    emitter: Emitter,
    stack: Vec<(Target, Output)>,
}

pub(super) struct Node {
    pub(super) operator: Box<dyn Operator>,
    parent: Target,
    /// Per port, as far as it is known.
    pub(super) watermarks: Vec<EventTime>,
    pub(super) rows: RowCount,
    /// Whether a snapshot waits for more of its state.
    pub(super) saving: bool,
}

impl Default for Graph {
    fn default() -> Graph {
        Graph {
            nodes: Vec::new(),
            sources: Vec::new(),
            order: Vec::new(),
            output: StepOutput::default(),
            watermark: EventTime::MIN,
            alive: 0,
            given: 0,
            emitter: Emitter::default(),
            stack: Vec::new(),
        }
    }
}

impl Graph {
    /// A graph without operators.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Adds an operator whose output goes to `parent`; gives its index.
    pub fn add(&mut self, operator: Box<dyn Operator>, parent: Target) -> usize {
        assert!(parent.is_none_or(|(node, _)| node < self.nodes.len()), "parents come first");
        let rows = RowCount::default();
        self.nodes.push(Node { operator, parent, watermarks: Vec::new(), rows, saving: false });
        self.output.rows.push(RowCount::default());
        self.order.clear();
        self.nodes.len() - 1
    }

    /// Adds a source that feeds `target`; gives its index, which is not an operator's.
    pub fn add_source(&mut self, target: Target) -> usize {
        assert!(target.is_none_or(|(node, _)| node < self.nodes.len()), "operators come first");
        self.sources.push(target);
        self.sources.len() - 1
    }

    /// Sends rows of a source through the operators.
    pub fn push(&mut self, source: usize, change: Change) -> Result<(), EvalError> {
        self.run(self.sources[source], Output::Change(change))
    }

    /// Sends a source's watermark through the operators.
    pub fn watermark(&mut self, source: usize, watermark: EventTime) -> Result<(), EvalError> {
        self.run(self.sources[source], Output::Watermark(watermark))
    }

    /// Sends a source's punctuation through the operators.
    pub fn punctuation(
        &mut self,
        source: usize,
        punctuation: Arc<Punctuation>,
    ) -> Result<(), EvalError> {
        self.run(self.sources[source], Output::Punctuation(punctuation))
    }

    /// How many bytes of rows there may be at a time that operators make from here on, until this is called
    /// again, beyond those that they are given.
    pub fn limit_output(&mut self, bytes: u64) {
        self.emitter.bytes_max = bytes;
        self.given = self.alive;
    }

    /// Bytes of the rows that wait to be taken.
    pub fn output_bytes(&self) -> u64 {
        self.output.bytes
    }

    /// Tells every operator that processing time has come to `now`.
    pub fn tick(&mut self, now: i64) -> Result<(), EvalError> {
        self.each_operator(|operator, out| operator.on_tick(now, out))
    }

    /// Tells every operator that a frame has been read by every source of its log.
    pub fn frame_end(&mut self) -> Result<(), EvalError> {
        self.each_operator(|operator, out| operator.on_frame_end(out))
    }

    /// Whether the order in which sources have a frame shows in the output.
    pub fn interleaves(&self) -> bool {
        self.nodes.iter().any(|node| node.operator.interleaves())
    }

    /// Lets every operator put out what it answers before any row has come.
    pub fn begin(&mut self) -> Result<(), EvalError> {
        self.each_operator(|operator, out| operator.on_step_end(out))
    }

    /// Ends the step and gives what came out since the last end.
    pub fn step_end(&mut self) -> Result<StepOutput, EvalError> {
        self.limit_output(self.emitter.bytes_max);
        self.each_operator(|operator, out| operator.on_step_end(out))?;
        for (node, rows) in self.nodes.iter_mut().zip(&self.output.rows) {
            node.rows.rows_in += rows.rows_in;
            node.rows.rows_out += rows.rows_out;
        }
        let fresh = StepOutput {
            watermark: self.watermark,
            rows: vec![RowCount::default(); self.nodes.len()],
            ..StepOutput::default()
        };
        self.alive = self.alive.saturating_sub(self.output.bytes);
        Ok(std::mem::replace(&mut self.output, fresh))
    }

    /// What an operator's output sums to, if it knows. Called between steps only.
    pub fn current(&self, node: usize) -> Result<Option<Current>, EvalError> {
        self.nodes.get(node).map_or(Ok(None), |node| node.operator.current())
    }

    /// The earliest processing time at which an operator wants a tick.
    pub fn next_tick(&self) -> Option<i64> {
        self.nodes.iter().filter_map(|node| node.operator.next_tick()).min()
    }

    /// The watermark of the output.
    pub fn output_watermark(&self) -> EventTime {
        self.watermark
    }

    /// Whether any operator has taken rows: an upper bound of "there is something to close".
    pub fn holds_rows(&self) -> bool {
        self.nodes.iter().any(|node| node.rows.rows_in > 0)
    }

    /// Bytes of state of all operators.
    pub fn state_bytes(&self) -> usize {
        self.nodes.iter().map(|node| node.operator.state_bytes()).sum()
    }

    /// The operators by their index: of a plan, root first, each before its inputs.
    pub fn operators(&self) -> impl Iterator<Item = OperatorFigures> + '_ {
        self.nodes.iter().map(|node| OperatorFigures {
            name: node.operator.name(),
            state_bytes: node.operator.state_bytes(),
            held: node.operator.held(),
            shards: node.operator.shards(),
            rows: node.rows,
        })
    }

    /// Calls every operator, leaves first, and sends what each emits on to the output.
    fn each_operator(
        &mut self,
        mut call: impl FnMut(&mut dyn Operator, &mut Emitter) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        if self.order.is_empty() {
            self.order = self.leaves_first();
        }
        for i in 0..self.order.len() {
            let node = self.order[i];
            self.begin_call();
            call(self.nodes[node].operator.as_mut(), &mut self.emitter)?;
            self.collect(node)?;
            self.drain()?;
        }
        Ok(())
    }

    /// Children before parents, the input on the lower port first.
    fn leaves_first(&self) -> Vec<usize> {
        let mut children: Vec<Vec<(usize, usize)>> = vec![Vec::new(); self.nodes.len()];
        let mut stack = Vec::new();
        for (i, node) in self.nodes.iter().enumerate() {
            match node.parent {
                Some((parent, port)) => children[parent].push((port, i)),
                None => stack.push(i),
            }
        }
        // Parents first and higher ports first, then turned round.
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(node) = stack.pop() {
            order.push(node);
            children[node].sort_unstable();
            stack.extend(children[node].iter().map(|(_, child)| *child));
        }
        order.reverse();
        order
    }

    fn run(&mut self, target: Target, output: Output) -> Result<(), EvalError> {
        let bytes = bytes_of_output(&output);
        (self.alive, self.given) = (self.alive + bytes, self.given + bytes);
        self.stack.push((target, output));
        self.drain()
    }

    /// Delivers until nothing is under way.
    fn drain(&mut self) -> Result<(), EvalError> {
        while let Some((target, output)) = self.stack.pop() {
            match target {
                None => self.arrive(output),
                Some((node, port)) => {
                    let output = self.first_part(node, port, output);
                    self.alive = self.alive.saturating_sub(bytes_of_output(&output));
                    self.begin_call();
                    self.deliver(node, port, output)?;
                    self.collect(node)?;
                }
            }
        }
        Ok(())
    }

    /// Hands one output to the operator that it is for.
    fn deliver(&mut self, node: usize, port: usize, output: Output) -> Result<(), EvalError> {
        let out = &mut self.emitter;
        let Node { operator, watermarks, .. } = &mut self.nodes[node];
        match output {
            Output::Change(change) => {
                self.output.rows[node].rows_in += change.batch.num_rows() as u64;
                operator.on_change(port, change, out)
            }
            Output::Watermark(watermark) => {
                if watermarks.len() <= port {
                    watermarks.resize(port + 1, EventTime::MIN);
                }
                let earlier = watermarks[port];
                debug_assert!(watermark >= earlier, "{}: a watermark went back", operator.name());
                if watermark <= earlier {
                    return Ok(());
                }
                watermarks[port] = watermark;
                operator.on_watermark(port, watermark, out)
            }
            Output::Punctuation(punctuation) => operator.on_punctuation(port, &punctuation, out),
        }
    }

    /// As much of an output as the operator takes at once; the rest goes back on the stack.
    fn first_part(&mut self, node: usize, port: usize, output: Output) -> Output {
        let most = self.nodes[node].operator.rows_at_once();
        let Output::Change(change) = &output else { return output };
        let rows = change.batch.num_rows();
        if rows <= most {
            return output;
        }
        let (first, rest) = (change.slice(0, most), change.slice(most, rows - most));
        self.alive =
            self.alive.saturating_sub(bytes_of(change)) + bytes_of(&first) + bytes_of(&rest);
        self.stack.push((Some((node, port)), Output::Change(rest)));
        Output::Change(first)
    }

    /// Lets an operator know how much there is beside what it puts out.
    fn begin_call(&mut self) {
        (self.emitter.bytes, self.emitter.given) = (self.alive, self.given);
    }

    /// Puts what `node` emitted on its way; the first output ends on top of the stack.
    fn collect(&mut self, node: usize) -> Result<(), EvalError> {
        let parent = self.nodes[node].parent;
        self.emitter.check_room()?;
        for output in self.emitter.outputs.drain(..).rev() {
            if let Output::Change(change) = &output {
                self.output.rows[node].rows_out += change.batch.num_rows() as u64;
                self.alive += bytes_of(change);
            }
            self.stack.push((parent, output));
        }
        self.output.late.append(&mut self.emitter.late);
        self.output.rejected.append(&mut self.emitter.rejected);
        Ok(())
    }

    /// Takes what leaves the graph.
    fn arrive(&mut self, output: Output) {
        match output {
            Output::Change(change) => {
                self.output.bytes = self.output.bytes.saturating_add(bytes_of(&change));
                self.output.changes.push(change);
            }
            Output::Watermark(watermark) => {
                debug_assert!(watermark >= self.watermark, "the output's watermark went back");
                self.watermark = self.watermark.max(watermark);
                self.output.watermark = self.watermark;
            }
            Output::Punctuation(punctuation) => self.output.punctuations.push(punctuation),
        }
    }
}

fn bytes_of_output(output: &Output) -> u64 {
    match output {
        Output::Change(change) => bytes_of(change),
        Output::Watermark(_) | Output::Punctuation(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

    use super::*;
    use crate::data::change::{Marks, Origin};
    use crate::operators::state::{StateReader, StateWriter};
    use crate::operators::union::{Sharing, Union};

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, true)]))
    }

    fn rows(values: &[i64]) -> Change {
        let column = Arc::new(Int64Array::from(values.to_vec()));
        let origin = Origin {
            relation: Arc::from("s"),
            first_offset: 0,
            ingest_time: 0,
            arrival: Marks::All(i64::MIN),
            progress: Marks::All(i64::MIN),
            derived: false,
        };
        Change {
            batch: RecordBatch::try_new(schema(), vec![column]).unwrap(),
            weights: None,
            origin: Arc::new(origin),
            rows: None,
        }
    }

    fn values(output: &StepOutput) -> Vec<i64> {
        let batches = output.changes.iter().map(|change| &change.batch);
        batches
            .flat_map(|batch| {
                let column = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
                column.values().to_vec()
            })
            .collect()
    }

    /// Emits each change twice, keeps a copy for the end of the step, and wants a tick at `due`.
    struct Echo {
        due: Option<i64>,
        kept: Vec<Change>,
    }

    impl Operator for Echo {
        fn name(&self) -> &'static str {
            "Echo"
        }
        fn on_change(&mut self, _: usize, c: Change, out: &mut Emitter) -> Result<(), EvalError> {
            self.kept.push(c.clone());
            out.change(c.clone());
            out.change(c);
            Ok(())
        }
        fn on_watermark(
            &mut self,
            _: usize,
            watermark: EventTime,
            out: &mut Emitter,
        ) -> Result<(), EvalError> {
            out.watermark(watermark);
            Ok(())
        }
        fn on_tick(&mut self, now: i64, out: &mut Emitter) -> Result<(), EvalError> {
            if self.due.take_if(|due| *due <= now).is_some() {
                out.change(rows(&[now]));
            }
            Ok(())
        }
        fn next_tick(&self) -> Option<i64> {
            self.due
        }
        fn on_step_end(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
            self.kept.drain(..).for_each(|change| out.change(change));
            Ok(())
        }
        fn state_bytes(&self) -> usize {
            self.kept.len()
        }
        fn restores_exactly(&self) -> bool {
            true
        }
        fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
            out.put(&self.due)
        }
        fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
            self.due = from.get()?;
            Ok(())
        }
    }

    fn echo(due: Option<i64>) -> Box<dyn Operator> {
        Box::new(Echo { due, kept: Vec::new() })
    }

    fn union(ports: usize) -> Box<dyn Operator> {
        Box::new(Union::new(vec![schema(); ports], schema(), Sharing::Apart))
    }

    #[test]
    fn the_end_of_a_step_reaches_parents_with_what_their_children_emit_at_it() {
        let mut graph = Graph::new();
        let root = graph.add(echo(None), None);
        let child = graph.add(echo(None), Some((root, 0)));
        let source = graph.add_source(Some((child, 0)));
        graph.push(source, rows(&[1])).unwrap();
        assert_eq!(graph.state_bytes(), 3, "one change in the child, two in the root");
        let output = graph.step_end().unwrap();
        // 2 x 2 at once; at the end the child's copy goes through the root, then the root's three.
        assert_eq!(values(&output).len(), 4 + 2 + 3);
        assert_eq!(output.rows[root], RowCount { rows_in: 3, rows_out: 9 });
        assert_eq!(output.rows[child], RowCount { rows_in: 1, rows_out: 3 });
        let next = graph.step_end().unwrap();
        assert!(next.changes.is_empty() && next.rows[root] == RowCount::default());
        let totals: Vec<_> = graph.operators().map(|operator| operator.rows.rows_out).collect();
        assert_eq!(totals, [9, 3]);
    }

    #[test]
    fn inputs_meet_at_their_ports_and_the_least_watermark_leaves() {
        let mut graph = Graph::new();
        let root = graph.add(union(2), None);
        let left = graph.add_source(Some((root, 0)));
        let right = graph.add_source(Some((root, 1)));
        graph.push(left, rows(&[1])).unwrap();
        graph.push(right, rows(&[2, 3])).unwrap();
        graph.watermark(left, EventTime(9)).unwrap();
        let output = graph.step_end().unwrap();
        assert_eq!((values(&output), output.watermark), (vec![1, 2, 3], EventTime::MIN));
        graph.watermark(right, EventTime(4)).unwrap();
        graph.watermark(right, EventTime(4)).unwrap();
        assert_eq!(graph.step_end().unwrap().watermark, EventTime(4));
        assert_eq!(graph.step_end().unwrap().watermark, EventTime(4), "it stays");
    }

    #[test]
    #[should_panic(expected = "a watermark went back")]
    fn a_watermark_that_goes_back_is_a_broken_invariant() {
        let mut graph = Graph::new();
        let root = graph.add(union(1), None);
        let source = graph.add_source(Some((root, 0)));
        graph.watermark(source, EventTime(9)).unwrap();
        graph.watermark(source, EventTime(8)).unwrap();
    }

    #[test]
    fn ticks_run_from_the_leaves_up_and_the_earliest_is_asked_for() {
        let mut graph = Graph::new();
        let root = graph.add(echo(Some(20)), None);
        let child = graph.add(echo(Some(10)), Some((root, 0)));
        graph.add_source(Some((child, 0)));
        assert_eq!(graph.next_tick(), Some(10));
        graph.tick(10).unwrap();
        assert_eq!(graph.next_tick(), Some(20));
        // The child's row passes the root (twice); the end of the step adds the root's copy.
        assert_eq!(values(&graph.step_end().unwrap()), [10, 10, 10]);
        graph.tick(25).unwrap();
        assert_eq!(graph.next_tick(), None);
    }

    #[test]
    fn a_source_may_be_the_whole_query_and_a_chain_may_be_long() {
        let mut graph = Graph::new();
        let source = graph.add_source(None);
        graph.push(source, rows(&[5])).unwrap();
        assert_eq!(values(&graph.step_end().unwrap()), [5]);

        let mut graph = Graph::new();
        let mut parent = None;
        for _ in 0..100_000 {
            parent = Some((graph.add(union(1), parent), 0));
        }
        let source = graph.add_source(parent);
        graph.push(source, rows(&[6])).unwrap();
        graph.watermark(source, EventTime(3)).unwrap();
        let output = graph.step_end().unwrap();
        assert_eq!((values(&output), output.watermark), (vec![6], EventTime(3)));
    }
}
