//! Results on their way to the agent: descriptions, rows, COPY data, function results.

use std::sync::Arc;

use types::addr::Side;
use types::command::{Risk, Statement};
use types::limits::ROW_BYTES_MAX;
use types::redact::{Column, Format, Redaction, Treatment, TreatmentKind};

use super::PostgresSession;
use super::copy_out::CopyOut;
use super::executing::is_execute;
use super::expect::Expect;
use super::function_call;
use super::message::{self, HEADER};
use super::prepared::{self, Plan, Portal, Prepared, Rows, parameter_description, row_description};
use super::response::has_many_results;
use super::rows::{self, Passage, Rest};
use crate::reader::Reader;

/// Whether COPY data flows.
#[derive(Debug)]
pub(super) enum CopyState {
    /// None does.
    None,
    /// To the server.
    In,
    /// To the agent; `None` where it is relayed as it is.
    Out(Option<Box<CopyOut>>),
    /// Both ways, for replication: relayed.
    Both,
}

impl PostgresSession {
    /// ParameterDescription, RowDescription, NoData.
    pub(super) fn description(&mut self, tag: u8, frame: &[u8], body: &[u8]) -> Option<()> {
        if let (b'T', Some(Expect::Query(_))) = (tag, self.expects.front()) {
            let columns = row_description(body)?;
            let statement = Arc::clone(&self.fresh_result()?.statement);
            self.server.plan = Some(self.plan_rows(&statement, &columns)?);
            self.relay(frame);
            return Some(());
        }
        let Some(Expect::Describe { prepared, portal, hidden, epoch }) = self.expects.front_mut()
        else {
            return None;
        };
        if tag == b't' {
            if *portal {
                return None;
            }
            let types = parameter_description(body)?;
            if let Some(prepared) = prepared {
                prepared.description(self.epoch).parameter_types = Some(types);
            }
            self.relay(frame);
            return Some(());
        }
        let (prepared, hidden, epoch) = (prepared.take(), *hidden, *epoch);
        let told = (tag == b'T').then_some(body);
        let rows = match prepared.as_ref().filter(|_| epoch == self.epoch) {
            Some(prepared) => prepared.description(epoch).tell(told)?,
            None => prepared::rows(told)?,
        };
        self.server.described = Some((prepared, rows));
        self.expects.pop_front();
        if !hidden {
            self.relay(frame);
        }
        Some(())
    }

    /// The running command, where no result of it is under way or went before.
    fn fresh_result(&mut self) -> Option<&mut super::expect::InFlight> {
        if self.server.plan.is_some() || !matches!(self.server.copy, CopyState::None) {
            return None;
        }
        self.running().filter(|command| !command.completed || has_many_results(&command.statement))
    }

    fn plan_rows(&mut self, statement: &Arc<Statement>, columns: &[Column]) -> Option<Arc<Plan>> {
        let mut treatments = Vec::with_capacity(columns.len());
        if statement.replicates() {
            // Decided in the knowledge that no mask can be applied.
            let pass = |one: &Column| Treatment {
                kind: TreatmentKind::Pass,
                type_oid: one.type_oid,
                modifier: one.modifier,
                format: one.format,
            };
            treatments.extend(columns.iter().map(pass));
        } else if is_fetch(statement) || is_execute(statement) {
            // Its description may be older than what that name stands for: the text alone counts.
            let unknown = |one: &Column| Column { table_oid: 0, attnum: 0, ..one.clone() };
            let columns: Vec<Column> = columns.iter().map(unknown).collect();
            let source = self.cursors.source(statement);
            self.redactor.plan(&source, &columns, &mut treatments);
        } else {
            let analysis = &statement.analysis;
            if let Some(plan) = self.server.plans.get(self.epoch, analysis, columns) {
                return Some(plan);
            }
            self.redactor.plan(analysis, columns, &mut treatments);
            let plan = planned(treatments, columns)?;
            self.server.plans.put(self.epoch, analysis, columns, &plan);
            return Some(plan);
        }
        planned(treatments, columns)
    }

    /// How the rows of the current result are treated.
    fn current_plan(&mut self) -> Option<Arc<Plan>> {
        if let Some(plan) = &self.server.plan {
            return Some(Arc::clone(plan));
        }
        let Some(Expect::Execute { command, portal, rows }) = self.expects.front() else {
            return None;
        };
        let kept = kept_plan(&command.statement, portal.as_deref(), self.epoch);
        let plan = if let Some(plan) = kept {
            plan
        } else {
            let (statement, portal, rows) =
                (Arc::clone(&command.statement), portal.clone(), rows.clone());
            self.execution_plan(&statement, portal.as_deref(), rows)?
        };
        self.server.plan = Some(Arc::clone(&plan));
        Some(plan)
    }

    fn execution_plan(
        &mut self,
        statement: &Arc<Statement>,
        portal: Option<&Portal>,
        known: Rows,
    ) -> Option<Arc<Plan>> {
        let prepared = portal.and_then(described_by);
        let rows = match (known, &self.server.described) {
            (Rows::Unknown, Some((of, rows)))
                if of.as_ref().map(Arc::as_ptr) == prepared.map(Arc::as_ptr) =>
            {
                rows.clone()
            }
            (known, _) => known,
        };
        let Rows::Columns(columns) = rows else { return None };
        let (Some(portal), Some(prepared)) = (portal, prepared) else {
            // Described as the portal that it is, formats included.
            return self.plan_rows(statement, &columns);
        };
        let plan = self.plan_rows(statement, &portal.formats.apply(&columns))?;
        let mut description = prepared.description(self.epoch);
        if matches!(&description.rows, Rows::Columns(current) if Arc::ptr_eq(current, &columns)) {
            description.plan = Some((portal.formats.clone(), Arc::clone(&plan)));
        }
        Some(plan)
    }

    /// Takes the DataRows that `bytes` start with.
    pub(super) fn take_rows(&mut self, bytes: &[u8]) -> usize {
        if self.is_limited() {
            self.limit_by_cursor();
        }
        let Some(command) = self.running() else {
            self.refuse_server("a row that is not due");
            return 0;
        };
        let is_limited = command.limited.is_some();
        if self.is_cut() {
            return self.drop_rows(bytes);
        }
        let Some(plan) = self.current_plan() else {
            self.refuse_server("a row without a description");
            return 0;
        };
        if is_limited {
            return self.take_limited_rows(&plan, bytes);
        }
        let Some(command) = self.expects.front_mut().and_then(Expect::command) else { return 0 };
        let passage = Passage {
            redactor: self.redactor.as_mut(),
            command,
            out: self.transmit.downstream.buffer(),
            scratch: &mut self.scratch,
        };
        let Ok(taken) = rows::relay(&plan, passage, bytes) else {
            self.refuse_server("a row that does not match its description");
            return 0;
        };
        self.server.rest = taken.rest;
        taken.bytes
    }

    /// CopyInResponse, CopyOutResponse, CopyBothResponse.
    pub(super) fn copy_response(&mut self, tag: u8, frame: &[u8], body: &[u8]) -> Option<()> {
        let mut reader = Reader::new(body);
        let (binary, count) = (reader.u8()? != 0, usize::from(reader.u16()?));
        (reader.rest().len() == 2 * count).then_some(())?;
        let statement = Arc::clone(&self.fresh_result()?.statement);
        // Of what did not parse nothing is known.
        let copies = statement.copy.is_some() || statement.risks.contains(Risk::UNPARSED);
        (statement.replicates() || (tag != b'W' && copies)).then_some(())?;
        self.server.copy = match tag {
            b'G' => {
                self.agent.copy_in = true;
                self.consume_behind_copy();
                self.limit_copy_in(&statement, binary);
                CopyState::In
            }
            b'W' => CopyState::Both,
            _ if statement.replicates() => CopyState::Out(None),
            _ => self.copy_out(&statement, binary, count)?,
        };
        self.relay(frame);
        Some(())
    }

    fn copy_out(&mut self, statement: &Statement, binary: bool, count: usize) -> Option<CopyState> {
        let format = if binary { Format::Binary } else { Format::Text };
        let mut treatments = Vec::with_capacity(count);
        self.redactor.plan_copy(statement, count, format, &mut treatments);
        (treatments.len() == count).then_some(())?;
        let plan = Plan::new(treatments);
        // Without columns there is nothing to pass: rows are held to having none.
        if plan.pass && count > 0 {
            return Some(CopyState::Out(None));
        }
        let copy = statement.copy.as_ref()?;
        let out = CopyOut::new(Arc::new(plan), copy);
        // What was decided must be what is copied.
        (out.is_text() != binary).then(|| CopyState::Out(Some(Box::new(out))))
    }

    /// Drops what the server will not answer since it reads it as COPY data: Syncs are ignored,
    /// the first other message is an error that uses it up.
    fn consume_behind_copy(&mut self) {
        let Some(current) = self.expects.pop_front() else { return };
        while matches!(self.expects.front(), Some(Expect::Sync)) {
            self.expects.pop_front();
        }
        if matches!(current, Expect::Query(_))
            && let Some(next) = self.expects.pop_front()
        {
            self.skip(next, None);
        }
        self.expects.push_front(current);
    }

    /// Takes a CopyData, or as much of it as may go.
    pub(super) fn take_copy(&mut self, bytes: &[u8], total: usize) -> usize {
        if self.is_limited()
            && let CopyState::Out(_) | CopyState::Both = self.server.copy
            && let Some(dropped) = self.limit_copy(bytes, total)
        {
            return dropped;
        }
        let head = bytes.get(..total).unwrap_or(bytes);
        let out = self.transmit.downstream.buffer();
        let command = self.expects.front_mut().and_then(Expect::command);
        match (&mut self.server.copy, command) {
            (CopyState::Out(Some(copy)), Some(command)) => {
                if total > ROW_BYTES_MAX {
                    self.refuse_server("a COPY row too large to mask");
                    return 0;
                }
                let Some(payload) = bytes.get(HEADER..total) else { return 0 };
                let at = out.len();
                let mut fed = Ok(());
                message::frame(out, b'd', |out| {
                    fed = copy.feed(self.redactor.as_mut(), payload, out);
                });
                let written = out.get(at + HEADER..).unwrap_or_default();
                if fed.is_err() || written.is_empty() {
                    out.truncate(at);
                } else {
                    if copy.is_text() {
                        command.sample.push(written);
                    }
                    command.bytes_out += (out.len() - at) as u64;
                }
                if fed.is_err() {
                    self.refuse_server("COPY data that cannot be taken apart");
                    return 0;
                }
                total
            }
            (CopyState::Out(None) | CopyState::Both, Some(command)) => {
                // Of files and logs of the server's there is no text to keep.
                let is_kept = !command.sample.is_full() && !command.statement.replicates();
                if is_kept && total <= ROW_BYTES_MAX {
                    let Some(payload) = bytes.get(HEADER..total) else { return 0 };
                    command.sample.push(payload);
                }
                out.extend_from_slice(head);
                command.bytes_out += head.len() as u64;
                self.server.rest = (total > head.len()).then(|| Rest::Relay(total - head.len()));
                head.len()
            }
            _ => {
                self.refuse_server("COPY data that is not due");
                0
            }
        }
    }

    /// CopyDone.
    pub(super) fn copy_done(&mut self, frame: &[u8]) -> Option<()> {
        match &self.server.copy {
            CopyState::Out(Some(copy)) if !copy.is_whole() => return None,
            CopyState::Out(_) | CopyState::Both => {}
            CopyState::None | CopyState::In => return None,
        }
        self.relay(frame);
        if self.running().is_some_and(|command| command.statement.replicates()) {
            // More results may follow.
            self.server.copy = CopyState::None;
        }
        Some(())
    }

    /// FunctionCallResponse: one value of which nothing is known.
    pub(super) fn function_response(&mut self, frame: &[u8], body: &[u8]) -> Option<()> {
        if !matches!(self.expects.front(), Some(Expect::Function { .. })) {
            return None;
        }
        let mut reader = Reader::new(body);
        let value = reader.value()?;
        reader.is_empty().then_some(())?;
        let command = self.running().filter(|command| !command.completed)?;
        command.completed = true;
        let statement = Arc::clone(&command.statement);
        let column = Column {
            name: Vec::new(),
            table_oid: 0,
            attnum: 0,
            type_oid: 0,
            modifier: -1,
            format: Format::Text,
        };
        let plan = self.plan_rows(&statement, &[column])?;
        self.scratch.clear();
        // Of nothing there is nothing to mask; and for who reads on until there is no more, it is the end.
        let value =
            value.filter(|value| !value.is_empty() && function_call::returns_values(&statement));
        let redaction = match (value, plan.treatments.first()) {
            (Some(value), Some(treatment)) if treatment.kind != TreatmentKind::Pass => {
                self.redactor.redact(*treatment, value, &mut self.scratch)
            }
            _ => Redaction::Unchanged,
        };
        let changed = match redaction {
            Redaction::Unchanged => {
                self.relay(frame);
                return Some(());
            }
            Redaction::Replaced => Some(self.scratch.as_slice()),
            Redaction::Null => None,
        };
        let length = changed.map_or(Ok(-1), |value| i32::try_from(value.len())).ok()?;
        message::frame(self.transmit.downstream.buffer(), b'V', |out| {
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(changed.unwrap_or_default());
        });
        Some(())
    }

    /// Tells the agent that the server is ready.
    pub(super) fn relay_ready(&mut self, status: u8) {
        message::frame(self.transmit.of(Side::Downstream).buffer(), b'Z', |out| out.push(status));
    }
}

/// The plan of these treatments; `None` where they are not the columns'.
fn planned(treatments: Vec<Treatment>, columns: &[Column]) -> Option<Arc<Plan>> {
    (treatments.len() == columns.len()).then(|| Arc::new(Plan::new(treatments)))
}

/// The statement whose description holds for a portal's rows.
fn described_by(portal: &Portal) -> Option<&Arc<Prepared>> {
    portal.prepared.as_ref().filter(|prepared| !is_execute(&prepared.statement))
}

/// The plan that the last execution of the same statement had, with the same formats and in the same epoch.
fn kept_plan(statement: &Statement, portal: Option<&Portal>, epoch: u64) -> Option<Arc<Plan>> {
    let portal = portal.filter(|_| !is_fetch(statement))?;
    let description = described_by(portal)?.description(epoch);
    let (formats, plan) = description.plan.as_ref()?;
    (*formats == portal.formats).then(|| Arc::clone(plan))
}

/// Whether the rows are a cursor's, which may be another one each time.
fn is_fetch(statement: &Statement) -> bool {
    statement.verb == "FETCH"
}
