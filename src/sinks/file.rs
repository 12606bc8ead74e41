//! Writes a changelog into a directory, one file per range of offsets, each of them once.
//!
//! # Method
//! A commit is a file. Its rows go into a hidden temporary file, which is synced; then the mark
//! (`weir_progress.json` in the same directory) says that it is pending; then it is renamed to
//! `<from>-<to>.<format>` and the directory is synced. **The rename decides**: whoever reads a mark with
//! something pending finds the temporary file still there (it did not count, and is removed) or gone
//! (it counted, even if somebody has taken the finished file away since).
//!
//! # Invariants
//! F1 A finished file is never written to, renamed or removed, and none is ever replaced.
//! F2 The mark changes only under the directory's lock, by the writer whose fence it carries.
//!
//! # Not here
//! When a file is complete: the loop gathers its rows, see `SinkSettings`.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::SqlState;
use crate::sinks::file_format::{self, FileFormat, Unwritten};
use crate::sinks::mark_file::{self, Mark, Pending, step};
use crate::sinks::net_effect::net_effect;
use crate::sinks::progress;
use crate::sinks::sink::{Refuse, SinkBatch, SinkError, SinkPlan, SinkTarget};

/// The mark's name in the directory.
const MARK: &str = "weir_progress.json";
/// Digits of an offset in a name: as many as the greatest has, so that names sort by offset.
const DIGITS: usize = 20;

/// A directory that takes files.
#[derive(Debug)]
pub struct FileTarget {
    path: PathBuf,
    format: FileFormat,
    claim: Option<Claim>,
}

/// What [`SinkTarget::prepare`] claimed.
#[derive(Debug, Clone)]
struct Claim {
    plan: SinkPlan,
    fence: i64,
}

/// What a commit meets.
enum Found {
    /// It counted already.
    Counted,
    /// The mark is where the commit begins.
    Ready(Mark),
}

impl FileTarget {
    /// A target that looks at its directory at [`SinkTarget::prepare`].
    pub fn new(path: PathBuf, format: FileFormat) -> FileTarget {
        FileTarget { path, format, claim: None }
    }

    fn mark(&self) -> PathBuf {
        self.path.join(MARK)
    }

    /// Whether an input or output error can pass.
    fn judge(&self, plan: &SinkPlan, error: &io::Error) -> SinkError {
        let directory = self.path.display();
        match error.kind() {
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => SinkError::Mismatch {
                code: SqlState::INVALID_PARAMETER,
                message: format!("path of sink \"{}\" is not a directory", plan.name),
                detail: format!("{directory}: {error}."),
                hint: "Name a directory; it is created if it is missing.".into(),
            },
            ErrorKind::InvalidData => SinkError::Mismatch {
                code: SqlState::CORRUPT,
                message: format!("mark of sink \"{}\" is damaged", plan.name),
                detail: format!("{}: {error}.", self.mark().display()),
                hint: "Move the directory away and create the sink anew.".into(),
            },
            _ => SinkError::Unavailable {
                sink: plan.name.clone(),
                cause: format!("{directory}: {error}"),
            },
        }
    }

    /// The mark with nothing pending. Needs the lock.
    fn settled(&self) -> io::Result<Option<Mark>> {
        let Some(mark) = mark_file::read(&self.mark())? else { return Ok(None) };
        let Some(pending) = mark.pending.clone() else { return Ok(Some(mark)) };
        // What was renamed but not synced must not come back after a power loss.
        mark_file::sync(&self.path)?;
        let temporary = self.path.join(&pending.temporary);
        let settled = match temporary.try_exists()? {
            true => mark.at(mark.offset, None),
            false => mark.at(pending.to, None),
        };
        mark_file::write(&self.mark(), &settled)?;
        Ok(Some(settled))
    }

    fn claim(&self, plan: &SinkPlan) -> Result<Mark, SinkError> {
        let failed = |error| self.judge(plan, &error);
        self.create_directory().map_err(failed)?;
        let _lock = mark_file::lock(&self.path).map_err(failed)?;
        let found = self.settled().map_err(failed)?;
        let mine = Mark::new(&plan.id, &plan.changelog);
        let mark = match found {
            None => mine,
            Some(mark) if mark.sink == plan.id => mark,
            Some(mark) if !plan.adopt => {
                return Err(SinkError::Mismatch {
                    code: SqlState::OBJECT_IN_USE,
                    message: format!(
                        "directory \"{}\" is the target of another sink",
                        self.path.display()
                    ),
                    detail: format!("{MARK} names the sink {}.", mark.sink),
                    hint: "Name another directory, or take this one over from the other sink \
                           with adopt = true."
                        .into(),
                });
            }
            Some(mark) if mark.changelog == plan.changelog => {
                Mark { fence: mark.fence, counted: mark.counted, ..mine.at(mark.offset, None) }
            }
            Some(mark) => Mark { fence: mark.fence, ..mine },
        };
        plan.judge(mark.offset, mark.counted())?;
        self.clean(plan, mark.offset)?;
        let mark = Mark { fence: mark.fence + 1, ..mark };
        mark_file::write(&self.mark(), &mark).map_err(failed)?;
        Ok(mark)
    }

    fn create_directory(&self) -> io::Result<()> {
        if self.path.is_dir() {
            return Ok(());
        }
        step()?;
        fs::create_dir_all(&self.path)?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        mark_file::sync(parent.unwrap_or(Path::new(".")))
    }

    /// Removes what an earlier writer did not finish; refuses files beyond the mark, which the
    /// sink would run into.
    fn clean(&self, plan: &SinkPlan, offset: u64) -> Result<(), SinkError> {
        let failed = |error| self.judge(plan, &error);
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if is_temporary(name) {
                step().and_then(|()| fs::remove_file(entry.path())).map_err(failed)?;
            } else if range_of(name).is_some_and(|(_, to)| offset < to) {
                return Err(self.in_the_way(plan, name));
            }
        }
        Ok(())
    }

    fn in_the_way(&self, plan: &SinkPlan, name: &str) -> SinkError {
        SinkError::Mismatch {
            code: SqlState::OBJECT_IN_USE,
            message: format!("directory of sink \"{}\" holds files of another sink", plan.name),
            detail: format!("{} is not this sink's.", self.path.join(name).display()),
            hint: "Move the files away, or name another directory.".into(),
        }
    }

    /// Where the mark is, seen by a commit of `[from, to)`. Needs the lock.
    fn look(&self, claim: &Claim, from: u64, to: u64) -> Result<Found, SinkError> {
        let found = self.settled().map_err(|error| self.judge(&claim.plan, &error))?;
        match found {
            Some(mark) if mark.sink == claim.plan.id && mark.fence == claim.fence => {
                match mark.offset {
                    offset if offset == to => Ok(Found::Counted),
                    offset if offset == from => Ok(Found::Ready(mark)),
                    offset => Err(fenced(claim, from, Some((offset, mark.fence)))),
                }
            }
            Some(mark) if mark.sink == claim.plan.id => {
                Err(fenced(claim, from, Some((mark.offset, mark.fence))))
            }
            _ => Err(fenced(claim, from, None)),
        }
    }

    /// Writes the rows into a temporary file, durably.
    fn write(&self, path: &Path, rows: &arrow::array::RecordBatch) -> Result<(), Unwritten> {
        step()?;
        let file = File::create_new(path)?;
        step()?;
        file_format::write(self.format, rows, &file)?;
        step()?;
        file.sync_all()?;
        drop(file);
        Ok(mark_file::sync(&self.path)?)
    }

    /// Makes the temporary file, or nothing, count. Needs the lock.
    fn publish(
        &self,
        mark: &Mark,
        (to, name): (u64, &str),
        temporary: Option<&str>,
    ) -> io::Result<()> {
        if let Some(temporary) = temporary {
            let pending = Pending { to, temporary: temporary.into() };
            mark_file::write(&self.mark(), &mark.at(mark.offset, Some(pending)))?;
            step()?;
            fs::rename(self.path.join(temporary), self.path.join(name))?;
            mark_file::sync(&self.path)?;
        }
        mark_file::write(&self.mark(), &mark.at(to, None))
    }
}

impl SinkTarget for FileTarget {
    fn prepare(&mut self, plan: &SinkPlan) -> Result<u64, SinkError> {
        let mark = self.claim(plan)?;
        self.claim = Some(Claim { plan: plan.clone(), fence: mark.fence });
        Ok(mark.offset)
    }

    fn commit(
        &mut self,
        batch: &SinkBatch,
        from: u64,
        to: u64,
        _refuse: Refuse<'_>,
    ) -> Result<u64, SinkError> {
        assert!(from < to, "a file moves the mark forward: {from} to {to}");
        let claim = self.claim.clone().expect("prepare comes before commit");
        let plan = &claim.plan;
        let failed = |error: io::Error| self.judge(plan, &error);
        let items = net_effect(plan, batch)?;
        let written = items.len() as u64;
        {
            let _lock = mark_file::lock(&self.path).map_err(failed)?;
            if let Found::Counted = self.look(&claim, from, to)? {
                return Ok(written);
            }
        }
        let value = |cause: String| SinkError::Conversion { sink: plan.name.clone(), cause };
        let rows = file_format::rows(plan.mode, batch, &items);
        let rows = rows.map_err(|error| value(error.to_string()))?;
        let name = format!("{from:0DIGITS$}-{to:0DIGITS$}.{}", self.format.extension());
        let temporary = format!(".weir-{}-{name}.part", claim.fence);
        let path = self.path.join(&temporary);
        // A file whose write or sync failed is not written to again, but begun anew.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        if rows.num_rows() > 0 {
            let result = self.write(&path, &rows);
            if result.is_err() {
                // Gives the room back; what stays is removed by the next writer.
                fs::remove_file(&path).ok();
            }
            result.map_err(|unwritten| match unwritten {
                Unwritten::Io(error) => failed(error),
                Unwritten::Value(cause) => value(cause),
            })?;
        }
        let _lock = mark_file::lock(&self.path).map_err(failed)?;
        let Found::Ready(mark) = self.look(&claim, from, to)? else { return Ok(written) };
        if self.path.join(&name).try_exists().map_err(failed)? {
            return Err(self.in_the_way(plan, &name));
        }
        let mark = Mark { counted: Some(plan.counted(to)), ..mark };
        let temporary = (rows.num_rows() > 0).then_some(temporary.as_str());
        self.publish(&mark, (to, &name), temporary).map_err(failed)?;
        Ok(written)
    }

    fn forget(&mut self, plan: &SinkPlan) -> Result<(), SinkError> {
        mark_file::forget(&self.mark(), &plan.id).map_err(|error| self.judge(plan, &error))
    }
}

fn fenced(claim: &Claim, from: u64, found: Option<(u64, i64)>) -> SinkError {
    let found = found.map(|(offset, fence)| (progress::signed(offset), fence));
    progress::fenced(&claim.plan, (progress::signed(from), claim.fence), found)
}

/// Whether a file is one that some writer did not finish.
fn is_temporary(name: &str) -> bool {
    let inner = name.strip_prefix(".weir-").and_then(|rest| rest.strip_suffix(".part"));
    let Some((fence, name)) = inner.and_then(|inner| inner.split_once('-')) else { return false };
    fence.parse::<i64>().is_ok() && range_of(name).is_some()
}

/// The offsets in the name of a finished file.
fn range_of(name: &str) -> Option<(u64, u64)> {
    let (range, extension) = name.split_once('.')?;
    let (from, to) = range.split_once('-')?;
    let offset = |text: &str| match text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_digit())
    {
        true => text.parse().ok(),
        false => None,
    };
    matches!(extension, "ndjson" | "csv" | "parquet").then_some(())?;
    Some((offset(from)?, offset(to)?))
}
