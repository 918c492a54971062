//! One receiver, for ever: reads what is durable, sends it, keeps how far that is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use journal::record::Lsn;
use journal::start::Start;
use types::clock::Clock;

use crate::file::Lines;
use crate::otlp::Otlp;
use crate::position::Position;
use crate::rows::{Batch, Source};
use crate::syslog::Syslog;
use crate::{Format, ForwardError, Place, io_error, with_sources};

/// How often is looked for what is new, at least apart.
const LOOK: Duration = Duration::from_millis(500);

/// Looking reads a segment from its beginning: it takes no more than a tenth of a processor's time.
const LOOK_SHARE: u32 = 9;

/// How long a receiver that fails is left alone; twice as long after each further time.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// How long at most.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What is forwarded where.
pub struct Job {
    /// Where.
    pub place: Place,
    /// In which form.
    pub format: Format,
    /// The authorities that may have signed the receiver's certificate, PEM; the system's where absent.
    pub ca: Option<PathBuf>,
    /// The size at which a file is set aside, and how many of these are kept.
    pub files: (u64, u32),
    /// The journal.
    pub journal: PathBuf,
    /// Where is kept how far it is.
    pub position: PathBuf,
    /// Whether a receiver that is new gets what was recorded before.
    pub from_the_beginning: bool,
    /// The last durable frame, and the row behind the last durable one.
    pub durable: Box<dyn Fn() -> (Lsn, u64) + Send>,
    /// Told when a receiver fails (why), when it takes rows again (nothing), and of rows it refused for good.
    pub tell: Box<dyn Fn(Told<'_>) + Send>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How far it is.
    pub standing: Arc<Mutex<Standing>>,
}

/// Something worth a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// It takes nothing; why.
    Failing(&'a str),
    /// It takes rows again.
    Resumed,
    /// It refused so many rows for good; why.
    Rejected(u64, &'a str),
}

/// How far a receiver is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The row that is sent next.
    pub next_row: u64,
    /// Why nothing is taken now.
    pub error: Option<String>,
}

enum Sink {
    File(Lines),
    Syslog(Syslog),
    Otlp(Otlp),
}

/// A receiver being served.
struct Service {
    job: Job,
    sink: Sink,
    /// All before it counts as taken, and that is kept.
    taken: u64,
    /// The row that is sent next.
    next: u64,
}

/// Forwards until the process ends.
///
/// # Errors
/// If it can't begin: what is kept of how far it is, or a certificate, can't be read.
pub async fn run(job: Job) -> Result<(), ForwardError> {
    let mut service = Service::begin(job)?;
    let mut pause = PAUSE_MIN;
    loop {
        let begun_ns = service.job.clock.now().mono_ns;
        match service.pass().await {
            Ok(()) => {
                service.stand(None);
                pause = PAUSE_MIN;
                let spent = service.job.clock.now().mono_ns.saturating_sub(begun_ns);
                let rest = Duration::from_nanos(spent).saturating_mul(LOOK_SHARE);
                tokio::time::sleep(rest.clamp(LOOK, PAUSE_MAX)).await;
            }
            Err(error) => {
                service.fail(&error);
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(PAUSE_MAX);
            }
        }
    }
}

impl Service {
    fn begin(job: Job) -> Result<Self, ForwardError> {
        let kept = Position::load(&job.position)?;
        let taken = if let Some(Position { next_row }) = kept {
            next_row
        } else {
            let next_row = if job.from_the_beginning {
                // What was let go before is in the archive.
                let start = Start::read(&job.journal);
                start.map_err(io_error("reading", &job.journal))?.map_or(0, |start| start.seq)
            } else {
                (job.durable)().1
            };
            Position { next_row }.keep(&job.position)?;
            next_row
        };
        let sink = match &job.place {
            Place::File(path) => Sink::File(Lines::new(path, job.files.0, job.files.1)),
            Place::Syslog { host, port, tls } => {
                Sink::Syslog(Syslog::new(host, *port, *tls, job.ca.as_ref())?)
            }
            Place::Otlp(url) => Sink::Otlp(Otlp::new(url, job.ca.as_ref())?),
        };
        let service = Self { job, sink, taken, next: taken };
        service.stand(None);
        Ok(service)
    }

    /// Sends what is durable.
    async fn pass(&mut self) -> Result<(), ForwardError> {
        self.settle().await?;
        let (lsn, rows) = (self.job.durable)();
        if rows <= self.next || !self.has_room() {
            return Ok(());
        }
        let mut source = Source::open(&self.job.journal, self.next, lsn)?;
        while self.has_room() {
            let Some(batch) = source.batch(self.job.format)? else { break };
            self.send(&batch).await?;
            self.next = batch.next_row;
            self.settle().await?;
        }
        Ok(())
    }

    async fn send(&mut self, batch: &Batch) -> Result<(), ForwardError> {
        let now_ns = self.job.clock.now().mono_ns;
        match &mut self.sink {
            Sink::Syslog(syslog) => return syslog.send(batch, now_ns).await,
            Sink::File(lines) => lines.send(batch)?,
            Sink::Otlp(_) if batch.items.is_empty() => {}
            Sink::Otlp(otlp) => {
                if let Some((count, why)) = otlp.send(batch).await?.rejected {
                    (self.job.tell)(Told::Rejected(count, &why));
                }
            }
        }
        self.keep(batch.next_row)
    }

    fn has_room(&self) -> bool {
        match &self.sink {
            Sink::Syslog(syslog) => syslog.has_room(),
            Sink::File(_) | Sink::Otlp(_) => true,
        }
    }

    async fn settle(&mut self) -> Result<(), ForwardError> {
        let Sink::Syslog(syslog) = &mut self.sink else { return Ok(()) };
        match syslog.settle(self.job.clock.now().mono_ns).await? {
            Some(next_row) => self.keep(next_row),
            None => Ok(()),
        }
    }

    fn keep(&mut self, next_row: u64) -> Result<(), ForwardError> {
        Position { next_row }.keep(&self.job.position)?;
        self.taken = next_row;
        self.standing().next_row = next_row;
        Ok(())
    }

    fn fail(&mut self, error: &ForwardError) {
        if let Sink::Syslog(syslog) = &mut self.sink {
            syslog.close();
        }
        // What does not count as taken is sent again.
        self.next = self.taken;
        self.stand(Some(with_sources(error)));
    }

    /// Says how it is, and tells where that changed.
    fn stand(&self, error: Option<String>) {
        let before = {
            let mut standing = self.standing();
            standing.next_row = self.taken;
            std::mem::replace(&mut standing.error, error.clone())
        };
        match (before, error) {
            (None, Some(why)) => (self.job.tell)(Told::Failing(&why)),
            (Some(_), None) => (self.job.tell)(Told::Resumed),
            _ => {}
        }
    }

    fn standing(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.job.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
