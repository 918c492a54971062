//! AF_UNIX: what is listed is reached, all else is refused and told; older kernels say so.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use redirect::event::Kind;
use redirect::unix::Mode;
use redirect::{Error, Kernel, Unix};
use tempfile::TempDir;

use crate::agent;
use crate::bed::{Bed, Child};
use crate::network::{event, try_in};

const REFUSED: &str = "error 111";

/// Sockets of others, in a directory that is root's alone to write to.
struct Services {
    folder: TempDir,
    abstract_name: String,
    _streams: Vec<UnixListener>,
    _datagrams: Vec<UnixDatagram>,
}

impl Services {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/run").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| folder.path().join(name);
        let jail = at("jail").join(folder.path().strip_prefix("/").unwrap());
        fs::create_dir_all(&jail).unwrap();
        symlink(at("other"), at("link")).unwrap();
        let abstract_name = format!("vestibule-{}", folder.path().display());
        let named = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let paths = [at("listed"), at("other"), jail.join("listed")];
        let mut streams: Vec<_> = paths.iter().map(|at| UnixListener::bind(at).unwrap()).collect();
        streams.push(UnixListener::bind_addr(&named).unwrap());
        let datagrams = [at("mailbox"), at("other_mailbox")];
        let datagrams = datagrams.iter().map(|at| UnixDatagram::bind(at).unwrap()).collect();
        Self { folder, abstract_name, _streams: streams, _datagrams: datagrams }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn allowing(&self, names: &[&str]) -> Unix {
        Unix { allow: names.iter().map(|name| self.at(name)).collect(), ..Unix::default() }
    }

    /// What connecting by a path comes to, in a cgroup.
    fn connect(&self, cgroup: &Path, name: &str) -> String {
        try_in(cgroup, &format!("socket(AF_UNIX).connect('{}')", self.at(name).display()))
    }
}

fn arm(bed: &Bed, unix: Unix) -> Result<Kernel, Error> {
    let mut options = bed.options();
    // What the guard would decide is not what is shown here.
    options.guard.mode = redirect::guard::Mode::Off;
    options.unix = unix;
    Kernel::arm(options)
}

/// Whether the kernel has the hooks, by its release.
fn has_hooks() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 7)
}

/// What Python expressions of sockets come to, all in one process.
fn try_all(cgroup: &Path, expressions: &[&str]) -> Vec<String> {
    let script = format!(
        "from socket import *
for each in {expressions:?}:
    try:
        print(eval(each),flush=True)
    except OSError as e:
        print('error',e.errno,flush=True)"
    );
    let mut child = Child::python(cgroup, &script);
    expressions.iter().map(|_| child.line()).collect()
}

#[test]
fn agents_reach_listed_unix_sockets_alone() {
    let bed = Bed::new(15_480);
    let services = Services::new();
    let kernel = arm(&bed, services.allowing(&["listed", "mailbox"])).unwrap();
    let cgroup = kernel.enroll(&agent(), "one", None).unwrap().path;
    assert_eq!(kernel.unix_unheld().is_none(), has_hooks(), "{:?}", kernel.unix_unheld());
    if !has_hooks() {
        assert_eq!(services.connect(&cgroup, "other"), "None");
        return;
    }
    let folder = services.folder.path().display();
    let name = &services.abstract_name;
    let chdir = format!("__import__('os').chdir('{folder}')");
    let pair = |kind| format!("(lambda a,b:a.send(b'x'))(*socketpair({kind}))");
    let wanted = [
        (format!("socket(AF_UNIX).connect('{folder}/listed')"), "None", "None"),
        (format!("socket(AF_UNIX).connect('{folder}/listed\\0more')"), "None", "None"),
        (format!("socket(AF_UNIX).connect('{folder}/other')"), REFUSED, "None"),
        (format!("socket(AF_UNIX).connect('{folder}/link')"), REFUSED, "None"),
        (format!("socket(AF_UNIX).connect('{folder}//listed')"), REFUSED, "None"),
        (format!("({chdir},socket(AF_UNIX).connect('listed'))[0]"), REFUSED, "None"),
        (format!("({chdir},socket(AF_UNIX).connect('./listed'))[0]"), REFUSED, "None"),
        (format!("socket(AF_UNIX).connect('{folder}/absent')"), REFUSED, "error 2"),
        (format!("socket(AF_UNIX).connect('{folder}/{}')", "x".repeat(80)), REFUSED, "error 2"),
        (format!("socket(AF_UNIX).connect('\\0{name}')"), REFUSED, "None"),
        (format!("socket(AF_UNIX,SOCK_SEQPACKET).connect('{folder}/other')"), REFUSED, "error 91"),
        (format!("socket(AF_UNIX,SOCK_DGRAM).sendto(b'x','{folder}/mailbox')"), "1", "1"),
        (format!("socket(AF_UNIX,SOCK_DGRAM).sendto(b'x','{folder}/other_mailbox')"), REFUSED, "1"),
        (format!("socket(AF_UNIX,SOCK_DGRAM).connect('{folder}/other_mailbox')"), REFUSED, "None"),
        (
            format!("socketpair(AF_UNIX,SOCK_DGRAM)[0].sendto(b'x','{folder}/other_mailbox')"),
            REFUSED,
            "1",
        ),
        (pair("AF_UNIX"), "1", "1"),
        (pair("AF_UNIX,SOCK_DGRAM"), "1", "1"),
    ];
    let expressions: Vec<&str> = wanted.iter().map(|(expression, ..)| &**expression).collect();
    let others = try_all(&bed.outside(), &expressions);
    let agents = try_all(&cgroup, &expressions);
    for (number, (expression, for_agents, for_others)) in wanted.iter().enumerate() {
        assert_eq!(others[number], *for_others, "{expression}");
        assert_eq!(agents[number], *for_agents, "{expression}");
    }
}

#[test]
fn a_listed_path_counts_where_the_daemon_sees_it() {
    let bed = Bed::new(15_481);
    let services = Services::new();
    let kernel = arm(&bed, services.allowing(&["listed"])).unwrap();
    let cgroup = kernel.enroll(&agent(), "one", None).unwrap().path;
    if !has_hooks() {
        return;
    }
    let [listed, other, jail] = ["listed", "other", "jail"].map(|name| services.at(name));
    let (listed, other) = (listed.display(), other.display());
    let connect = format!("socket(AF_UNIX).connect('{listed}')");
    // The same name of another file, by a root directory or by mounts of one's own.
    let chroot = format!("(__import__('os').chroot('{}'),{connect})[0]", jail.display());
    assert_eq!(try_in(&bed.outside(), &chroot), "None");
    assert_eq!(try_in(&cgroup, &chroot), REFUSED);
    let script = format!("from socket import *; {connect}");
    let mounted = format!(
        "__import__('subprocess').run(['unshare','--user','--map-root-user','--mount','sh','-c',\
         'mount --bind {other} {listed} && /usr/bin/python3 -c \"$0\"',\"{script}\"],stderr=-3).returncode"
    );
    assert_eq!(try_in(&bed.outside(), &mounted), "0");
    assert_eq!(try_in(&cgroup, &mounted), "1");
    assert_eq!(try_in(&cgroup, &connect), "None");
}

#[test]
fn refused_unix_sockets_are_told_by_name() {
    let bed = Bed::new(15_482);
    let services = Services::new();
    let kernel = arm(&bed, Unix::default()).unwrap();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    if !has_hooks() {
        return;
    }
    let mut events = kernel.take_events().unwrap();
    let other = services.at("other").display().to_string();
    let name = services.abstract_name.clone();
    assert_eq!(services.connect(&enrolled.path, "other"), REFUSED);
    let abstract_name = format!("socket(AF_UNIX,SOCK_DGRAM).sendto(b'x','\\0{name}')");
    assert_eq!(try_in(&enrolled.path, &abstract_name), REFUSED);
    for expected in [other, format!("@{name}")] {
        let told = event(&mut events, |event| event.unix.is_some().then(|| event.clone()));
        assert_eq!(told.unix, Some(expected));
        assert_eq!((told.kind, told.cgroup), (Kind::Refused(15), enrolled.cgroup));
        assert!(told.tgid > 0 && told.socket_cookie > 0 && told.netns_cookie > 0, "{told:?}");
        assert_eq!(told.destination, None);
    }
    assert_eq!(services.connect(&bed.agents(), "other"), REFUSED);
    let told = event(&mut events, |event| event.unix.is_some().then_some(event.kind));
    assert_eq!(told, Kind::Refused(2));
}

#[test]
fn unix_hooks_outlive_the_daemon_and_take_the_next_ones_list() {
    let bed = Bed::new(15_483);
    let services = Services::new();
    let kernel = arm(&bed, services.allowing(&["listed"])).unwrap();
    let cgroup = kernel.enroll(&agent(), "one", None).unwrap().path;
    if !has_hooks() {
        return;
    }
    let links = |names: [&str; 2]| {
        let all = bed.programs();
        names.map(|name| {
            let link = all.iter().find(|(path, ..)| path.ends_with(name)).unwrap();
            (link.1, link.2)
        })
    };
    let before = links(["connect_unix", "sendmsg_unix"]);
    // Who is no agent yet reaches what is listed; who is none any more does not.
    assert_eq!(services.connect(&bed.agents(), "listed"), "None");
    assert_eq!(services.connect(&bed.agents(), "other"), REFUSED);
    let revoked = kernel.enroll(&agent(), "two", None).unwrap();
    kernel.revoke(revoked.cgroup).unwrap();
    assert_eq!(services.connect(&revoked.path, "listed"), REFUSED);
    drop(kernel);
    assert_eq!(services.connect(&cgroup, "listed"), "None");
    assert_eq!(services.connect(&cgroup, "other"), REFUSED);
    let kernel = arm(&bed, services.allowing(&["other"])).unwrap();
    for ((link, program), (old_link, old_program)) in
        links(["connect_unix", "sendmsg_unix"]).into_iter().zip(before)
    {
        assert_eq!(link, old_link);
        assert_ne!(program, old_program);
    }
    assert_eq!(services.connect(&cgroup, "listed"), REFUSED);
    assert_eq!(services.connect(&cgroup, "other"), "None");
    drop(kernel);
    bed.rename_version();
    let kernel = arm(&bed, services.allowing(&["listed"])).unwrap();
    assert_eq!(services.connect(&cgroup, "other"), REFUSED);
    assert_eq!(services.connect(&cgroup, "listed"), "None");
    let script = format!(
        "from socket import *
for line in iter(input,''):
    try:
        socket(AF_UNIX).connect('{}')
        print('connected',flush=True)
    except OSError as e:
        print('error',e.errno,flush=True)",
        services.at("other").display()
    );
    let child = Child::python(&cgroup, &script);
    child.hears("now");
    let child = child.says(REFUSED);
    kernel.disarm().unwrap();
    child.hears("again");
    child.says("connected");
}

/// Hooks are those of the cgroup that a socket was made in.
#[test]
fn unix_sockets_made_before_enrollment_lead_nowhere() {
    let bed = Bed::new(15_486);
    let services = Services::new();
    let kernel = arm(&bed, services.allowing(&["listed"])).unwrap();
    let [other, mailbox] =
        ["other", "other_mailbox"].map(|name| services.at(name).display().to_string());
    let script = "from socket import *
stream, gram = socket(AF_UNIX), socket(AF_UNIX,SOCK_DGRAM)
pair, inside = socketpair(AF_UNIX,SOCK_DGRAM), socketpair()
server = socket(AF_UNIX); server.bind('\\0late'+str(__import__('os').getpid())); server.listen()
print('ready',flush=True)
for each in iter(input,''):
    try:
        print(eval(each),flush=True)
    except OSError as e:
        print('error',e.errno,flush=True)";
    let mut child = Child::python(&bed.outside(), script).says("ready");
    let taken = kernel.enroll_running(&agent(), "late", child.pid()).unwrap();
    assert_eq!(taken.sockets_ended, if has_hooks() { 4 } else { 0 });
    if !has_hooks() {
        return;
    }
    let mut asked = |expression: &str| {
        child.hears(expression);
        child.line()
    };
    assert_eq!(asked(&format!("(stream.connect('{other}'),stream.send(b'x'))[1]")), "error 32");
    assert_eq!(asked(&format!("gram.sendto(b'x','{mailbox}')")), "error 32");
    assert_eq!(asked(&format!("pair[0].sendto(b'x','{mailbox}')")), "error 32");
    assert_eq!(asked(&format!("socket(AF_UNIX).connect('{other}')")), REFUSED);
    assert_eq!(asked("inside[0].send(b'x')"), "1");
    let server = SocketAddr::from_abstract_name(format!("late{}", taken.processes[0])).unwrap();
    let _client = UnixStream::connect_addr(&server).unwrap();
    assert_eq!(asked("bool(server.accept())"), "True");
}

#[test]
fn cgroups_of_others_are_held_and_any_means_any() {
    let bed = Bed::new(15_484);
    let services = Services::new();
    let kernel = arm(&bed, services.allowing(&["listed"])).unwrap();
    let theirs = bed.agents().parent().unwrap().join("theirs");
    fs::create_dir(&theirs).unwrap();
    assert_eq!(services.connect(&theirs, "other"), "None");
    let taken = kernel.enroll_existing(&agent(), "one", &theirs).unwrap();
    if !has_hooks() {
        return;
    }
    assert_eq!(services.connect(&theirs, "other"), REFUSED);
    assert_eq!(services.connect(&theirs, "listed"), "None");
    drop(kernel);
    let kernel = arm(&bed, Unix { mode: Mode::Any, ..Unix::default() }).unwrap();
    assert_eq!(kernel.unix_unheld(), Some("turned off by configuration"));
    assert_eq!(services.connect(&theirs, "other"), "None");
    drop(kernel);
    let kernel = arm(&bed, Unix::default()).unwrap();
    assert_eq!(services.connect(&theirs, "other"), REFUSED);
    assert_eq!(services.connect(&theirs, "listed"), REFUSED);
    kernel.withdraw(taken.enrolled.cgroup).unwrap();
    assert_eq!(services.connect(&theirs, "other"), "None");
}

#[test]
fn a_socket_where_every_user_may_put_another_is_not_listed() {
    let bed = Bed::new(15_485);
    let unix = Unix { allow: vec![std::env::temp_dir().join("x.sock")], ..Unix::default() };
    if !has_hooks() {
        return drop(arm(&bed, unix).unwrap());
    }
    assert!(matches!(arm(&bed, unix), Err(Error::UnixPath { .. })));
}
