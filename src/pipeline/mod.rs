//! Turns a plan into running operators and drives them step by step.
//!
//! In reading order: [`graph`] (operators and their edges; what they tell is in [`figures`]), [`build`] (plan to graph), [`source`]
//! (frames of a log to changes), [`input`] (which of them come next), [`drive`] (the step), `intake` (its frames), [`shedding`] (which of their rows are kept where memory is short), `rehearse` (steps that write nothing), [`snapshot`] with [`snapshot_head`] and [`graph_state`] (its state in files), [`schedule`]
//! (who runs when), [`shards`] (who helps).

pub mod build;
pub mod drive;
pub mod figures;
pub mod graph;
pub mod graph_state;
pub mod input;
mod intake;
mod pace;
pub mod recorded;
mod rehearse;
pub mod schedule;
pub mod shards;
pub mod shedding;
pub mod snapshot;
pub mod snapshot_head;
pub mod source;
