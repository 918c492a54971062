//! The journal's disk fills up, breaks or hangs: nothing is acknowledged then, agents are told, nothing is lost, and
//! everything goes on by itself when the disk works again.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use integration::process::wait_until;
use integration::{Evidence, SmallDisk, World};
use serde_json::Value;

/// Small segments on a small disk, and no reserve.
const SMALL: &str = "\n[journal]\nsegment_bytes = 1048576\nreserve_bytes = 0\n";

/// A world whose journal lies on a small disk. The disk goes last.
fn world_on(disk: &mut SmallDisk, configuration: &str) -> World {
    world_by(disk, configuration, "wal")
}

/// The same, with a mode of acknowledgement for the target.
fn world_by(disk: &mut SmallDisk, configuration: &str, ack: &str) -> World {
    let mut world = World::start_with(configuration).unwrap();
    world.daemon.stop().unwrap();
    let file = world.daemon.directory().join("vestibule.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let protocol = "protocol = \"postgresql\"\n";
    assert!(text.contains(protocol));
    let text = text.replace(protocol, &format!("{protocol}ack = \"{ack}\"\n"));
    std::fs::write(&file, text).unwrap();
    disk.mount(&world.daemon.journal()).unwrap();
    world.daemon.restart().unwrap();
    world
}

/// Writes until it is refused, and says how many were acknowledged, by which code, and in which words; then again for
/// each line that comes, in the same session where that is still there.
const WRITE_ON: &str = "
import sys, psycopg
c = psycopg.connect(autocommit=True)
n = 0
def on(count):
    global c, n
    try:
        if c.closed:
            c = psycopg.connect(autocommit=True)
        for _ in range(count):
            c.execute('INSERT INTO case_notes (marker, body) VALUES (%s, %s)', (n + 1, 'disk ' + 'x' * 2000))
            n += 1
        print(n, 'ok', flush=True)
    except psycopg.Error as e:
        print(n, e.sqlstate, ' '.join(str(e).split()), flush=True)
on(3)
for line in sys.stdin:
    on(int(line))
";

/// What the agent says.
struct Told {
    acknowledged: u64,
    code: String,
    words: String,
}

/// An agent that writes on.
struct Writer {
    _process: integration::process::Running,
    input: std::process::ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Writer {
    fn start(world: &World) -> Self {
        let mut process = world.writer().start_python(WRITE_ON).unwrap();
        let lines = BufReader::new(process.take_stdout().unwrap()).lines();
        let input = process.take_stdin().unwrap();
        let mut own = Self { _process: process, input, lines };
        let first = own.told();
        assert_eq!((first.acknowledged, first.code.as_str()), (3, "ok"), "{}", first.words);
        own
    }

    fn told(&mut self) -> Told {
        let line = self.lines.next().unwrap().unwrap();
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        Told { acknowledged: word().parse().unwrap(), code: word(), words: word() }
    }

    fn write(&mut self, count: u32) -> Told {
        writeln!(self.input, "{count}").unwrap();
        self.told()
    }
}

fn trouble(world: &World) -> Value {
    world.daemon.status().unwrap()["journal_trouble"].clone()
}

fn until_well(world: &World) {
    wait_until("the journal goes on", 60, || Ok(trouble(world).is_null()))
        .unwrap_or_else(|error| panic!("{error}: {}", world.daemon.log()));
}

/// Whatever was acknowledged is in the server and recorded, whatever is in the server is recorded, and all of it
/// verifies; answers the evidence.
fn check(world: &World, acknowledged: u64) -> Evidence<'_> {
    let kept = world.bank.sql("SELECT count(*) FROM case_notes WHERE body LIKE 'disk%'").unwrap();
    let kept: u64 = kept.trim().parse().unwrap();
    assert!(kept >= acknowledged, "{kept} of {acknowledged} are in the server");
    let evidence = world.evidence().unwrap();
    let recorded = evidence.count("SELECT count(*) FROM events WHERE verb = 'INSERT'").unwrap();
    assert!(recorded >= kept, "recorded {recorded} of {kept}");
    let verified = evidence.verify_with_journal().unwrap();
    assert_eq!(verified.code, Some(0), "{} {}", verified.stdout, verified.stderr);
    evidence
}

const RESUMED: &str = "SELECT count(*) FROM control WHERE kind = 'log.resumed' \
                       AND json_extract(detail, '$.from_us')::bigint < json_extract(detail, '$.to_us')::bigint";

/// Nothing is acknowledged; whoever asks is told why.
fn refuses(world: &World, writer: &mut Writer) -> u64 {
    let told = writer.write(100_000);
    assert_eq!(told.code, "58030", "{}", told.words);
    assert!(told.words.contains("journal can't be written"), "{}", told.words);
    let why = trouble(world);
    assert!(why.as_str().unwrap().contains("can't be written"), "{why}");
    let log = world.daemon.log();
    assert!(log.contains("the journal can't be written: nothing is acknowledged"), "{log}");
    // So is a new session, where the last one is over, and who asks in it again.
    let again = writer.write(1);
    assert_eq!(again.acknowledged, told.acknowledged);
    assert!(again.words.contains("journal can't be written"), "{}", again.words);
    // No agent starts, and nothing of it goes to the server.
    let before = world.bank.log().unwrap().matches("SELECT id FROM customers").count();
    let refused = world.reader().psql("SELECT id FROM customers WHERE id = 1").unwrap();
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("journal"), "{}", refused.stderr);
    assert_eq!(world.bank.log().unwrap().matches("SELECT id FROM customers").count(), before);
    told.acknowledged
}

/// The disk works again: so does the journal by itself, once, and nothing of what was acknowledged is missing.
fn goes_on(world: &World, writer: &mut Writer, acknowledged: u64) {
    until_well(world);
    let told = writer.write(5);
    assert_eq!((told.code.as_str(), told.acknowledged), ("ok", acknowledged + 5), "{}", told.words);
    let evidence = check(world, told.acknowledged);
    assert_eq!(evidence.count(RESUMED).unwrap(), 1, "{}", world.daemon.log());
}

#[test]
fn a_full_disk_refuses_and_the_journal_goes_on_by_itself() {
    let mut disk = SmallDisk::new().unwrap();
    let world = world_on(&mut disk, SMALL);
    let mut writer = Writer::start(&world);
    disk.fill_but(0).unwrap();
    let acknowledged = refuses(&world, &mut writer);
    disk.make_room().unwrap();
    goes_on(&world, &mut writer, acknowledged);
}

#[test]
fn a_disk_that_turns_read_only_is_repaired_under_the_daemon() {
    let mut disk = SmallDisk::new().unwrap();
    let world = world_on(&mut disk, SMALL);
    let mut writer = Writer::start(&world);
    if disk.is_loop() {
        disk.break_down().unwrap();
    } else {
        disk.fill_but(0).unwrap();
    }
    let acknowledged = refuses(&world, &mut writer);
    if disk.is_loop() {
        disk.repair().unwrap();
    } else {
        disk.make_room().unwrap();
    }
    goes_on(&world, &mut writer, acknowledged);
}

#[test]
fn a_disk_that_hangs_holds_everything_up_and_loses_nothing() {
    let mut disk = SmallDisk::new().unwrap();
    let world = world_on(&mut disk, SMALL);
    let mut writer = Writer::start(&world);
    if disk.is_loop() {
        let hanging = disk.hang().unwrap();
        writeln!(writer.input, "7").unwrap();
        // However long it takes: nothing comes of it while the disk hangs.
        std::thread::sleep(Duration::from_secs(2));
        let kept = world.bank.sql("SELECT count(*) FROM case_notes WHERE body LIKE 'disk%'");
        assert_eq!(kept.unwrap().trim(), "3");
        drop(hanging);
        let told = writer.told();
        assert_eq!((told.code.as_str(), told.acknowledged), ("ok", 10), "{}", told.words);
    } else {
        eprintln!("a tmpfs can't hang: only that it is written is looked at");
        assert_eq!(writer.write(7).acknowledged, 10);
    }
    check(&world, 10);
}

/// `ack = "group"`: a plain change goes to the server while its record is on the way to the disk; nobody is told
/// of it before that is there.
#[test]
fn in_groups_a_change_goes_up_while_its_answer_waits() {
    let mut disk = SmallDisk::new().unwrap();
    let world = world_by(&mut disk, SMALL, "group");
    let mut writer = Writer::start(&world);
    if !disk.is_loop() {
        eprintln!("a tmpfs can't hang: only that it is written is looked at");
        assert_eq!(writer.write(1).acknowledged, 4);
        check(&world, 4);
        return;
    }
    let hanging = disk.hang().unwrap();
    writeln!(writer.input, "1").unwrap();
    wait_until("the change is in the server", 30, || {
        let kept = world.bank.sql("SELECT count(*) FROM case_notes WHERE body LIKE 'disk%'")?;
        Ok(kept.trim() == "4")
    })
    .unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            tell.send(writer.told().acknowledged).unwrap();
            drop(writer);
        });
        let early = told.recv_timeout(Duration::from_secs(1));
        drop(hanging);
        assert!(early.is_err(), "it was told before its record was durable");
        assert_eq!(told.recv_timeout(Duration::from_mins(1)), Ok(4));
    });
    check(&world, 4);
}

#[test]
fn below_the_reserve_what_begins_is_refused_and_what_ends_is_recorded() {
    let mut disk = SmallDisk::new().unwrap();
    // Twelve MiB of the small disk stay free.
    let reserve = "\n[journal]\nsegment_bytes = 1048576\nreserve_bytes = 12582912\n";
    let world = world_on(&mut disk, reserve);
    let mut writer = Writer::start(&world);
    disk.fill_but(8 << 20).unwrap();
    let refused = writer.write(100_000);
    assert_eq!(refused.code, "53100", "{}", refused.words);
    assert!(refused.words.contains("free space is under the reserve"), "{}", refused.words);
    assert!(trouble(&world).as_str().unwrap().contains("almost full"));
    disk.make_room().unwrap();
    until_well(&world);
    let told = writer.write(5);
    assert_eq!(told.acknowledged, refused.acknowledged + 5, "{}", told.words);
    let evidence = check(&world, told.acknowledged);
    for kind in ["log.pressure", "log.pressure_over"] {
        let said = format!("SELECT count(*) FROM control WHERE kind = '{kind}'");
        assert!(evidence.count(&said).unwrap() >= 1, "{kind}");
    }
    let ended = "SELECT count(*) FROM events WHERE verb = 'INSERT' AND status = 'interrupted'";
    assert_eq!(evidence.count(ended).unwrap(), 0, "what ends is recorded");
}
