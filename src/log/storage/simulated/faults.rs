//! Decides which calls of the simulated disk fail, counts them, and keeps a hash of all of them.

use std::collections::BTreeMap;
use std::io;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens, and the device reports an error. What a sync was to carry stays in doubt.
    Error,
    /// Nothing happens: the disk is full.
    NoSpace,
    /// Half of a write takes place, then the device reports an error; other calls fail as with
    /// [`Fault::Error`].
    Short,
    /// Half of a write takes place, and the process ends: nothing it does afterwards has an effect.
    End,
}

/// A call that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Bytes are written.
    Write,
    /// A file is cut or extended.
    SetLen,
    /// A file is made durable.
    Sync,
    /// A file is created.
    Create,
    /// A directory's entries are made durable.
    SyncDir,
    /// A file goes.
    Remove,
    /// A directory goes.
    RemoveDir,
    /// A file gets another name.
    Rename,
}

/// What is to fail, and what has happened.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Calls so far.
    pub(super) calls: u64,
    /// A hash over all of them.
    pub(super) trace: u64,
    /// The process has ended.
    pub(super) ended: bool,
    /// Calls that failed.
    pub(super) failures: u64,
    pub(super) writes_until_failure: Option<u64>,
    pub(super) syncs_until_failure: Option<u64>,
    pub(super) reads_until_failure: Option<u64>,
    /// By the number of the call, from 1.
    pub(super) planned: BTreeMap<u64, Fault>,
}

impl Faults {
    /// Notes a call; how it fails, if it does.
    pub(super) fn note(&mut self, call: Call, path: &str, detail: (u64, &[u8])) -> Option<Fault> {
        if self.ended {
            return Some(Fault::Error);
        }
        self.calls += 1;
        let (number, bytes) = detail;
        let mut hash = crc32c::crc32c_append(call as u32, path.as_bytes());
        hash = crc32c::crc32c_append(hash, &number.to_le_bytes());
        hash = crc32c::crc32c_append(hash, bytes);
        let mixed = (self.trace.rotate_left(7) ^ u64::from(hash)).wrapping_mul(0x0100_0000_01b3);
        self.trace = mixed;
        let due = match call {
            Call::Write => due(&mut self.writes_until_failure).then_some(Fault::Short),
            Call::Sync => due(&mut self.syncs_until_failure).then_some(Fault::Error),
            _ => None,
        };
        let fault = due.or(self.planned.remove(&self.calls));
        self.ended |= fault == Some(Fault::End);
        self.failures += u64::from(fault.is_some());
        fault
    }

    /// Whether a read fails.
    pub(super) fn read_fails(&mut self) -> bool {
        let fails = self.ended || due(&mut self.reads_until_failure);
        self.failures += u64::from(fails);
        fails
    }
}

/// What the caller of a failed call gets.
pub(super) fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::NoSpace => io::Error::new(io::ErrorKind::StorageFull, "no space left on device"),
        Fault::Error | Fault::Short => io::Error::other("injected failure of the device"),
        Fault::End => io::Error::other("the simulated process has ended"),
    }
}

/// Counts down to a failure; true when it is due.
fn due(countdown: &mut Option<u64>) -> bool {
    match countdown {
        Some(n) if *n <= 1 => {
            *countdown = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}
