//! Sends a changelog to a server as POST requests, at least once, in order, with idempotency keys.
//!
//! # Method
//! A commit is a request. Before it is sent, its range of offsets is noted in a file of the server's own
//! (the mark); after the answer the mark moves. After a crash the same range is sent again first, so a
//! range that was delivered comes again under its own key, never as part of another range.
//!
//! # Answers
//! | answer | meaning |
//! |---|---|
//! | 2xx | delivered |
//! | 400, 413, 422 | the rows are at fault: they are sent in halves until the refused ones are alone |
//! | any other, a timeout, a broken connection | tried again, after a growing delay, until it works |
//!
//! A retry sends the same ranges with the same keys, also of halves.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use arrow::array::RecordBatch;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use crate::encode::json::{self, RowWriter};
use crate::error::SqlState;
use crate::sinks::mark_file::{self, Mark, Pending, step};
use crate::sinks::net_effect::{Item, Operation, net_effect};
use crate::sinks::progress;
use crate::sinks::sink::{Refuse, Refused, SinkBatch, SinkError, SinkMode, SinkPlan, SinkTarget};
use crate::sinks::tls;

/// The header that names a range of offsets of one sink.
const KEY_HEADER: &str = "Idempotency-Key";
/// Bytes of an answer that is quoted as the reason.
const REASON_BYTES: u64 = 500;

/// How the server is asked.
#[derive(Clone, PartialEq)]
pub struct WebhookSettings {
    /// Where; may hold a password.
    pub url: String,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// How long a request may take, from connecting to the end of the answer.
    pub timeout: Duration,
    /// Certificates to trust instead of the public ones.
    pub tls_ca: Option<PathBuf>,
}

/// A server that takes POST requests.
pub struct WebhookTarget {
    settings: WebhookSettings,
    marks: PathBuf,
    agent: Option<Agent>,
    claim: Option<Claim>,
}

/// What [`SinkTarget::prepare`] claimed.
struct Claim {
    plan: SinkPlan,
    mark: Mark,
}

/// What an answer says.
enum Answer {
    Delivered,
    /// The rows are at fault.
    Refused(String),
}

impl WebhookTarget {
    /// A target that keeps its mark in the folder `marks`.
    pub fn new(settings: WebhookSettings, marks: PathBuf) -> WebhookTarget {
        WebhookTarget { settings, marks, agent: None, claim: None }
    }

    /// The sink's mark. Ids hold letters, digits and minus signs.
    fn mark_path(&self, plan: &SinkPlan) -> PathBuf {
        self.marks.join(format!("{}.json", plan.id))
    }

    fn agent(&self, plan: &SinkPlan) -> Result<Agent, SinkError> {
        let roots = match &self.settings.tls_ca {
            None => RootCerts::WebPki,
            Some(path) => {
                let pem = tls::certificates(path)
                    .map_err(|cause| SinkError::Unavailable { sink: plan.name.clone(), cause })?;
                let owned = pem.iter().map(|der| ureq::tls::Certificate::from_der(der).to_owned());
                RootCerts::from(owned.collect::<Vec<_>>())
            }
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(self.settings.timeout))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .proxy(None)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Ok(Agent::new_with_config(config))
    }

    fn save(&mut self, mark: Mark) -> Result<(), SinkError> {
        let claim = self.claim.as_mut().expect("prepare comes before commit");
        let path = self.marks.join(format!("{}.json", claim.plan.id));
        mark_file::write(&path, &mark).map_err(|error| lost(&claim.plan, &error))?;
        claim.mark = mark;
        Ok(())
    }

    /// Sends one request.
    fn post(&self, plan: &SinkPlan, part: &Part<'_>) -> Result<Answer, SinkError> {
        let agent = self.agent.as_ref().expect("prepare comes before commit");
        let mut request = agent
            .post(&self.settings.url)
            .header("Content-Type", "application/json")
            .header(KEY_HEADER, part.key(plan));
        if let Some(authorization) = &self.settings.authorization {
            request = request.header("Authorization", authorization);
        }
        step().map_err(|error| lost(plan, &error))?;
        let response = request.send(part.body(plan)).map_err(|error| SinkError::Unavailable {
            sink: plan.name.clone(),
            cause: error.to_string(),
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(Answer::Delivered);
        }
        let mut reason = Vec::new();
        // What cannot be read of a reason is left out.
        drop(response.into_body().into_reader().take(REASON_BYTES).read_to_end(&mut reason));
        let reason = format!("status {status}: {}", String::from_utf8_lossy(&reason).trim());
        match status.as_u16() {
            400 | 413 | 422 => Ok(Answer::Refused(reason)),
            code => Err(SinkError::Target {
                sink: plan.name.clone(),
                code: format!("HTTP {code}"),
                message: reason,
            }),
        }
    }

    /// Sends all rows but those that are refused, which it finds by halving.
    fn deliver(&self, plan: &SinkPlan, whole: Part<'_>) -> Result<Vec<Refused>, SinkError> {
        let mut refused = Vec::new();
        let mut waiting = Vec::from([whole]);
        while let Some(part) = waiting.pop() {
            let Answer::Refused(reason) = self.post(plan, &part)? else { continue };
            match part.halves() {
                Some((first, second)) => waiting.extend([second, first]),
                None => refused.extend(part.refused(&reason)),
            }
        }
        Ok(refused)
    }
}

impl SinkTarget for WebhookTarget {
    fn prepare(&mut self, plan: &SinkPlan) -> Result<u64, SinkError> {
        let failed = |error: io::Error| lost(plan, &error);
        self.agent = Some(self.agent(plan)?);
        fs::create_dir_all(&self.marks).map_err(failed)?;
        let path = self.mark_path(plan);
        let found = mark_file::read(&path).map_err(failed)?;
        let mark = match found {
            Some(mark) if mark.changelog == plan.changelog => mark,
            _ => Mark::new(&plan.id, &plan.changelog),
        };
        plan.judge(mark.offset, mark.counted())?;
        let mark = Mark { fence: mark.fence + 1, ..mark };
        let offset = mark.offset;
        self.claim = Some(Claim { plan: plan.clone(), mark: mark.clone() });
        self.save(mark)?;
        Ok(offset)
    }

    fn promised(&self) -> Option<u64> {
        let claim = self.claim.as_ref()?;
        claim.mark.pending.as_ref().map(|pending| pending.to)
    }

    fn commit(
        &mut self,
        batch: &SinkBatch,
        from: u64,
        to: u64,
        refuse: Refuse<'_>,
    ) -> Result<u64, SinkError> {
        assert!(from < to, "a request moves the mark forward: {from} to {to}");
        let claim = self.claim.as_ref().expect("prepare comes before commit");
        let (plan, mark) = (claim.plan.clone(), claim.mark.clone());
        let path = self.mark_path(&plan);
        let items = net_effect(&plan, batch)?;
        // Another writer's claim is seen in the file.
        let found = mark_file::read(&path).map_err(|error| lost(&plan, &error))?;
        match found {
            Some(found) if found.fence == mark.fence && found.offset == to => {
                return Ok(items.len() as u64);
            }
            Some(found) if found.fence == mark.fence && found.offset == from => {}
            found => {
                let found = found.map(|mark| (progress::signed(mark.offset), mark.fence));
                return Err(progress::fenced(&plan, (progress::signed(from), mark.fence), found));
            }
        }
        let mut refused = Vec::new();
        if !items.is_empty() {
            let pending = Pending { to, temporary: String::new() };
            if mark.pending.as_ref() != Some(&pending) {
                self.save(mark.at(from, Some(pending)))?;
            }
            let rows = RowWriter::new(&batch.batch);
            let whole = Part { batch, writer: &rows, items: &items, all: 0..items.len(), from, to };
            refused = self.deliver(&plan, whole)?;
        }
        if !refused.is_empty() {
            refuse(&refused).map_err(SinkError::Record)?;
        }
        self.save(mark.at(to, None))?;
        Ok((items.len() - refused.len()) as u64)
    }

    fn forget(&mut self, plan: &SinkPlan) -> Result<(), SinkError> {
        mark_file::forget(&self.mark_path(plan), &plan.id).map_err(|error| lost(plan, &error))
    }
}

/// The rows of one request.
struct Part<'a> {
    batch: &'a SinkBatch,
    writer: &'a RowWriter,
    items: &'a [Item],
    /// Which of the items.
    all: Range<usize>,
    from: u64,
    to: u64,
}

impl<'a> Part<'a> {
    /// The same rows of the same sink have the same key, and other rows another one.
    fn key(&self, plan: &SinkPlan) -> String {
        format!("{}:{}-{}", plan.id, self.from, self.to)
    }

    fn items(&self) -> &'a [Item] {
        &self.items[self.all.clone()]
    }

    fn body(&self, plan: &SinkPlan) -> Vec<u8> {
        let mut out = b"{\"sink\":".to_vec();
        json::write_string(&plan.name, &mut out);
        let (from, to) = (self.from, self.to);
        out.extend_from_slice(format!(",\"offset\":{from},\"next_offset\":{to}").as_bytes());
        if plan.mode == SinkMode::Changelog {
            let sign = |item: &Item| if item.operation == Operation::Log(-1) { b'-' } else { b'+' };
            out.extend_from_slice(b",\"ops\":\"");
            out.extend(self.items().iter().map(sign));
            out.push(b'"');
        }
        out.extend_from_slice(b",\"rows\":[");
        for (position, item) in self.items().iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            self.writer.object(item.row, &mut out);
        }
        out.extend_from_slice(b"]}");
        out
    }

    /// Two parts, cut between offsets; `None`: there is one offset only.
    fn halves(&self) -> Option<(Part<'a>, Part<'a>)> {
        let rows = |position: usize| self.items[position].row;
        let (first, last) = (rows(self.all.start), rows(self.all.end - 1));
        // Items of one row stay together: they have one offset, and a key names offsets.
        let middle = rows(self.all.start + self.all.len() / 2);
        let wanted = if middle == first { first + 1 } else { middle };
        if last < wanted {
            return None;
        }
        let cut = self.all.start + self.items().partition_point(|item| item.row < wanted);
        let at = self.batch.offset(rows(cut));
        let part = |all, from, to| Part { all, from, to, ..*self };
        Some((part(self.all.start..cut, self.from, at), part(cut..self.all.end, at, self.to)))
    }

    fn refused(&self, reason: &str) -> Vec<Refused> {
        let row_text = |batch: &RecordBatch, row| {
            let mut out = Vec::new();
            json::write_row_object(batch, row, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        let refused = |item: &Item| Refused {
            offset: self.batch.offset(item.row),
            code: SqlState::INVALID_TEXT.0.into(),
            reason: reason.into(),
            row: row_text(&self.batch.batch, item.row),
        };
        self.items().iter().map(refused).collect()
    }
}

/// An error of the server's own disk.
fn lost(plan: &SinkPlan, error: &io::Error) -> SinkError {
    match error.kind() {
        ErrorKind::InvalidData => SinkError::Mismatch {
            code: SqlState::CORRUPT,
            message: format!("mark of sink \"{}\" is damaged", plan.name),
            detail: format!("{error}."),
            hint: "Drop the sink and create it anew.".into(),
        },
        _ => SinkError::Unavailable { sink: plan.name.clone(), cause: error.to_string() },
    }
}
