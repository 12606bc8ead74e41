//! Writes the state of a graph's operators, section by section, and reads it back.

use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, misfit};
use crate::pipeline::graph::Graph;

/// A part of an operator's state.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// The operator's index in the graph.
    pub node: u32,
    /// What it wrote.
    pub state: Vec<u8>,
}

impl Graph {
    /// Whether a graph that [`restore`](Self::restore)s goes on to the bit as this one would.
    pub fn restores_exactly(&self) -> bool {
        self.nodes.iter().all(|node| node.operator.restores_exactly())
    }

    /// Begins to write the state of all operators as it is now: what they share goes to `out`, what
    /// each begins with comes back. The rest follows by [`save_more`](Self::save_more), while the
    /// operators go on. Called between steps only.
    pub fn save_begin(&mut self, out: &mut StateWriter) -> Result<Vec<Section>, EvalError> {
        assert!(self.output.changes.is_empty(), "a snapshot is taken between steps");
        self.save_abandon();
        out.put(&self.watermark)?;
        out.length(self.nodes.len());
        let mut sections = Vec::with_capacity(self.nodes.len());
        for (node, at) in self.nodes.iter_mut().zip(0..) {
            out.put(&node.operator.name().to_owned())?;
            out.put(&node.watermarks)?;
            out.put(&(node.rows.rows_in, node.rows.rows_out))?;
            let mut state = StateWriter::default();
            node.saving = node.operator.save_begin(&mut state)?;
            sections.push(Section { node: at, state: state.finish() });
        }
        Ok(sections)
    }

    /// About so many bytes more of what was begun; nothing when all is written.
    pub fn save_more(&mut self, bytes: usize) -> Result<Option<Section>, EvalError> {
        let mut nodes = self.nodes.iter_mut().zip(0..);
        let Some((node, at)) = nodes.find(|(node, _)| node.saving) else { return Ok(None) };
        let mut state = StateWriter::default();
        node.saving = node.operator.save_more(bytes, &mut state)?;
        Ok(Some(Section { node: at, state: state.finish() }))
    }

    /// Writes nothing more of what was begun.
    pub fn save_abandon(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.saving) {
            node.operator.save_abandon();
            node.saving = false;
        }
    }

    /// Reads what [`save_begin`](Self::save_begin) wrote, into a new graph of the same plan.
    pub fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.watermark = from.get()?;
        if from.length()? != self.nodes.len() {
            return Err(misfit("there are more or fewer operators"));
        }
        for node in &mut self.nodes {
            if from.get::<String>()? != node.operator.name() {
                return Err(misfit("an operator is another one"));
            }
            node.watermarks = from.get()?;
            (node.rows.rows_in, node.rows.rows_out) = from.get()?;
        }
        Ok(())
    }

    /// Reads the next section of an operator's state.
    pub fn restore_section(&mut self, node: u32, state: &[u8]) -> Result<(), EvalError> {
        let node = self.nodes.get_mut(node as usize);
        let node = node.ok_or_else(|| misfit("a section belongs to no operator"))?;
        let mut from = StateReader::new(state);
        node.operator.restore(&mut from)?;
        from.end()
    }

    /// Learns that all sections were read.
    pub fn restored(&mut self) -> Result<(), EvalError> {
        self.nodes.iter_mut().try_for_each(|node| node.operator.restored())
    }
}
