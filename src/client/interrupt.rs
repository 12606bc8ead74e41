//! Hears Ctrl-C, which stops what runs and not the shell.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How soon Ctrl-C is noticed while something runs.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Whether Ctrl-C was pressed since the last [`Interrupt::clear`].
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupt {
    state: Arc<(Mutex<bool>, Condvar)>,
}

impl Interrupt {
    /// Starts to listen; from now on Ctrl-C does not end the program.
    pub(super) fn listen() -> std::io::Result<Interrupt> {
        let interrupt = Interrupt::default();
        let heard = interrupt.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        std::thread::Builder::new().name("interrupt".into()).spawn(move || {
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    heard.press();
                }
            });
        })?;
        Ok(interrupt)
    }

    fn press(&self) {
        *self.state.0.lock() = true;
        self.state.1.notify_all();
    }

    /// Forgets an earlier Ctrl-C.
    pub(super) fn clear(&self) {
        *self.state.0.lock() = false;
    }

    /// Whether Ctrl-C was pressed.
    pub(super) fn is_set(&self) -> bool {
        *self.state.0.lock()
    }

    /// Waits so long, or until Ctrl-C; true when it was pressed.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let mut pressed = self.state.0.lock();
        if !*pressed {
            self.state.1.wait_for(&mut pressed, time);
        }
        *pressed
    }

    /// Runs `work` on a thread of its own; `None` when Ctrl-C came first. The work is then left
    /// behind and its outcome thrown away: a blocking read cannot be cut short.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let mut outcome = None;
        self.follow(
            move |sender: SyncSender<T>| {
                // Nobody listens any more after Ctrl-C.
                drop(sender.send(work()));
            },
            |value| outcome = Some(value),
        );
        outcome
    }

    /// Runs `work` on a thread of its own and takes each value that it sends, until it ends or
    /// Ctrl-C comes.
    pub(super) fn follow<T: Send + 'static>(
        &self,
        work: impl FnOnce(SyncSender<T>) + Send + 'static,
        mut take: impl FnMut(T),
    ) {
        let (sender, receiver) = mpsc::sync_channel(64);
        let spawned = std::thread::Builder::new().name("request".into()).spawn(|| work(sender));
        if spawned.is_err() {
            return;
        }
        while !self.is_set() {
            match receiver.recv_timeout(LOOK_EVERY) {
                Ok(value) => take(value),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_c_leaves_work_behind_that_never_ends() {
        let interrupt = Interrupt::default();
        assert_eq!(interrupt.run(|| 7), Some(7));
        interrupt.press();
        let (_keep, never) = mpsc::channel::<()>();
        assert_eq!(interrupt.run(move || never.recv().is_ok()), None);
        assert!(interrupt.wait(Duration::from_secs(60)));
        interrupt.clear();
        assert!(!interrupt.is_set());
    }
}
