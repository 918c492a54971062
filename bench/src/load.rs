//! The load: pgbench, and a reader of large results.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::process::{Running, run as run_program};
use integration::{Postgres, paths};
use rustix::time::{ClockId, clock_gettime};

use crate::case::{Bulk, Case, Mode};
use crate::probe;
use crate::report::Sample;
use crate::target::Target;

/// A row of the bulk table on the wire, about: six columns with their lengths, and the message's head.
const ROW_BYTES: u64 = 128;

/// How long a load runs before it counts, at first; doubled where connecting takes longer.
const WARM_UP: Duration = Duration::from_millis(1_200);

/// Makes pgbench's tables, the bulk table, and a quarter of it with a column that is masked.
pub(crate) fn fill(server: &Postgres, scale: u32, bulk_bytes: u64) -> Result<()> {
    let scale = scale.to_string();
    server.program("pgbench", &["-i", "-q", "-I", "dtGvp", "-s", &scale], 600)?.ok()?;
    server.sql(&format!(
        "CREATE UNLOGGED TABLE ledger (id bigint, account_id int, amount numeric(12,2), holder text, memo text, \
         booked_at timestamptz);
         INSERT INTO ledger SELECT n, n % 100000, (n % 5000000) / 100.0,
           (ARRAY['Ada Archer','Ben Baker','Cleo Cooper','Dan Draper','Eve Fisher'])[1 + n % 5],
           'payment ' || n || ' for invoice ' || n % 7919 || ', thank you', TIMESTAMPTZ '2026-01-01 00:00:00+00' + n * INTERVAL '1 second'
         FROM generate_series(1, {}) AS n;
         CREATE UNLOGGED TABLE payers AS SELECT id, amount, holder, memo, booked_at,
           lpad((100 + id % 500)::text, 3, '0') || '-' || lpad((10 + id / 500 % 89)::text, 2, '0') || '-' ||
           lpad((1000 + id * 7919 % 8999)::text, 4, '0') AS ssn
         FROM ledger LIMIT {};
         VACUUM ANALYZE ledger; VACUUM ANALYZE payers; CHECKPOINT",
        bulk_bytes / ROW_BYTES,
        bulk_bytes / ROW_BYTES / 4
    ))?;
    Ok(())
}

/// Runs one case against one target.
pub(crate) fn run(case: Case, target: &Target<'_>, seconds: u64) -> Result<Sample> {
    let pid = target.pid()?;
    pid.map_or(Ok(()), probe::reset_peak)?;
    let mut sample = match case {
        Case::Bulk(bulk) => run_bulk(bulk, target)?,
        Case::Select { .. } | Case::Connect { .. } => {
            let mut warm_up = WARM_UP;
            let mut sample = run_pgbench(case, target, warm_up, seconds)?;
            while sample.is_none() && warm_up < 8 * WARM_UP {
                warm_up *= 2;
                sample = run_pgbench(case, target, warm_up, seconds)?;
            }
            sample.context("the clients did not connect in time")?
        }
    };
    sample.rss_bytes = pid.map(probe::peak_bytes).transpose()?;
    Ok(sample)
}

/// Runs pgbench and measures while all of its clients are at work; `None` if they were not yet.
fn run_pgbench(
    case: Case,
    target: &Target<'_>,
    warm_up: Duration,
    seconds: u64,
) -> Result<Option<Sample>> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let mut pgbench = target.client(paths::postgres_programs()?.join("pgbench"));
    pgbench.current_dir(folder.path()).args(["-n", "-S", "-l", "--log-prefix=log"]);
    pgbench.args(["-T", &(warm_up.as_secs() + seconds + 1).to_string()]);
    pgbench.args(["-c", &case.clients().to_string(), "-j", &case.clients().min(2).to_string()]);
    match case {
        Case::Select { mode, .. } => pgbench.args(["-M", mode.name()]),
        _ => pgbench.args(["-C", "-M", Mode::Simple.name()]),
    };
    let errors = fs::File::create(folder.path().join("errors")).context("pgbench's messages")?;
    pgbench.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    let mut process = Running::new("pgbench", &mut pgbench)?;
    thread::sleep(warm_up);
    let before = Moment::take(target)?;
    thread::sleep(Duration::from_secs(seconds));
    let after = Moment::take(target)?;
    let ended = process.wait(120)?.context("pgbench does not end")?;
    if ended != Some(0) {
        bail!("pgbench: {}", fs::read_to_string(folder.path().join("errors")).unwrap_or_default());
    }
    let log = read_log(folder.path())?;
    let is_steady = log.iter().any(|done| done.at_us < before.at_us);
    Ok(is_steady.then(|| before.until(&after, case, target.name(), &log)))
}

/// What there is to see at one time.
struct Moment {
    at_us: u64,
    cpu_ns: Option<u64>,
    journal_bytes: Option<u64>,
}

impl Moment {
    fn take(target: &Target<'_>) -> Result<Self> {
        let journal_bytes = target.journal().as_deref().map(probe::journal_bytes).transpose()?;
        let cpu_ns = target.pid()?.map(probe::cpu_ns).transpose()?;
        Ok(Self { at_us: now_us(), cpu_ns, journal_bytes })
    }

    fn until(&self, after: &Self, case: Case, target: &'static str, log: &[Done]) -> Sample {
        let window = self.at_us..after.at_us;
        let mut latencies: Vec<u64> = log
            .iter()
            .filter(|done| window.contains(&done.at_us))
            .map(|done| done.took_us)
            .collect();
        latencies.sort_unstable();
        let count = as_f64(latencies.len() as u64).max(1.0);
        let quantile =
            |percent: usize| latencies.get(latencies.len() * percent / 100).copied().map(as_f64);
        let difference = |a: Option<u64>, b: Option<u64>| Some(as_f64(b?.saturating_sub(a?)));
        Sample {
            case,
            target,
            tps: as_f64(latencies.len() as u64) * 1e6 / as_f64(after.at_us - self.at_us),
            cpu_us_per_txn: difference(self.cpu_ns, after.cpu_ns).map(|ns| ns / 1e3 / count),
            cpu_ns_per_byte: None,
            p50_us: quantile(50),
            p99_us: quantile(99),
            rss_bytes: None,
            journal_bytes_per_txn: difference(self.journal_bytes, after.journal_bytes)
                .map(|b| b / count),
        }
    }
}

/// A finished transaction.
struct Done {
    /// Since 1970.
    at_us: u64,
    took_us: u64,
}

/// Reads pgbench's logs: `client transaction time script epoch_s epoch_us` (its manual, "Per-Transaction
/// Logging").
fn read_log(folder: &std::path::Path) -> Result<Vec<Done>> {
    let mut log = Vec::new();
    for entry in fs::read_dir(folder).context("pgbench's logs")? {
        let path = entry.context("a log")?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log")) {
            continue;
        }
        for line in fs::read_to_string(path).context("a log")?.lines() {
            let mut fields = line.split(' ').skip(2);
            let mut number =
                || fields.next().and_then(|f| f.parse::<u64>().ok()).context("a log's line");
            let (took_us, _script, s, us) = (number()?, number()?, number()?, number()?);
            log.push(Done { at_us: s * 1_000_000 + us, took_us });
        }
    }
    Ok(log)
}

/// Logs in with psycopg, sends one query on its socket and reads until ReadyForQuery, keeping nothing:
/// the reader costs as little as can be.
const READER: &str = "
import psycopg, socket, os, struct, sys, time
c = psycopg.connect(autocommit=True)
s = socket.socket(fileno=os.dup(c.pgconn.socket)); s.setblocking(True)
sql = sys.argv[1].encode() + b'\\0'
def message(tag, body): return tag + struct.pack('!i', len(body) + 4) + body
if sys.argv[2] == 'binary':
    query = message(b'P', b'\\0' + sql + bytes(2)) + message(b'B', bytes(6) + b'\\0\\1\\0\\1')
    query += message(b'D', b'P\\0') + message(b'E', bytes(5)) + message(b'S', b'')
else:
    query = message(b'Q', sql)
buffer = bytearray(1 << 20); total = 0; tail = b''
start = time.monotonic()
s.sendall(query)
while tail != b'Z\\0\\0\\0\\5I':
    n = s.recv_into(buffer)
    if not n: sys.exit('closed after %d bytes' % total)
    total += n
    tail = (tail + bytes(buffer[max(0, n - 6):n]))[-6:]
print(total, time.monotonic() - start)
os._exit(0)
";

fn run_bulk(bulk: Bulk, target: &Target<'_>) -> Result<Sample> {
    let sql = bulk.sql();
    let format = if bulk == Bulk::SelectMaskedBinary { "binary" } else { "text" };
    let before = Moment::take(target)?;
    let mut reader = target.client(paths::python());
    let told = run_program(reader.args(["-c", READER, sql, format]), 900)?.ok()?;
    let after = Moment::take(target)?;
    let mut fields = told.split_whitespace();
    let bytes: u64 = fields.next().context("bytes")?.parse().context("bytes")?;
    let seconds: f64 = fields.next().context("seconds")?.parse().context("seconds")?;
    ensure!(bytes > 10_000_000, "{sql} answered {bytes} bytes only");
    let cpu_ns = before.cpu_ns.zip(after.cpu_ns).map(|(a, b)| as_f64(b.saturating_sub(a)));
    Ok(Sample {
        case: Case::Bulk(bulk),
        target: target.name(),
        tps: 1.0 / seconds,
        cpu_us_per_txn: cpu_ns.map(|ns| ns / 1e3),
        cpu_ns_per_byte: cpu_ns.map(|ns| ns / as_f64(bytes)),
        p50_us: Some(seconds * 1e6),
        p99_us: None,
        rss_bytes: None,
        journal_bytes_per_txn: before
            .journal_bytes
            .zip(after.journal_bytes)
            .map(|(a, b)| as_f64(b.saturating_sub(a))),
    })
}

/// Microseconds since 1970, as pgbench's log has them.
fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    let s = u64::try_from(now.tv_sec).unwrap_or_default();
    s * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000
}

#[expect(clippy::cast_precision_loss, reason = "measurements are far below 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
