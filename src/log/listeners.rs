//! Tells those who wait that a log has more to read.

use std::sync::Arc;

use crate::log::log::Log;

/// Called after more frames became visible.
pub(super) type Listener = Arc<dyn Fn() + Send + Sync>;

/// Who wants to hear of it.
#[derive(Default)]
pub(super) struct Listeners {
    next_id: u64,
    all: Arc<Vec<(u64, Listener)>>,
}

impl Log {
    /// Registers a callback for "there is more to read"; it runs on the appending thread, outside of
    /// all locks, and must be short.
    pub fn listen(&self, listener: Listener) -> u64 {
        let mut listeners = self.listeners.write();
        let id = listeners.next_id;
        listeners.next_id += 1;
        Arc::make_mut(&mut listeners.all).push((id, listener));
        id
    }

    /// Removes a callback.
    pub fn unlisten(&self, id: u64) {
        Arc::make_mut(&mut self.listeners.write().all).retain(|(known, _)| *known != id);
    }

    pub(super) fn notify(&self) {
        let all = Arc::clone(&self.listeners.read().all);
        for (_, listener) in all.iter() {
            listener();
        }
    }
}
