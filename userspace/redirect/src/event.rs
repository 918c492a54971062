//! What the kernel programs tell: refusals, unknown network namespaces, ends of flows.
//!
//! The ring is pinned: what happens while no daemon runs is told to the next one, as far as there
//! is room; so is what was heard and not yet put down. Nothing here decides anything.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use aya::maps::{Map, MapData, PerCpuArray};
use redirect_common::unix::UnixRefusal;
use redirect_common::{KernelEvent, event, map};
use types::id::CgroupId;

use crate::original_destination::ip;
use crate::ring::Ring;
use crate::{Error, Kernel, sys};

/// Something that happened to an agent in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub at_ns: u64,
    /// The nearest enrolled cgroup, or the process's own; 0 if unknown.
    pub cgroup: CgroupId,
    /// The socket's network namespace.
    pub netns_cookie: u64,
    /// The agent-side socket.
    pub socket_cookie: u64,
    /// The process; 0 if unknown.
    pub tgid: u32,
    /// Where to, as the agent said, if anywhere.
    pub destination: Option<SocketAddr>,
    /// IP protocol.
    pub protocol: u16,
    /// The name of the socket of AF_UNIX that it was for: a path as the agent said it, or `@` and
    /// an abstract name.
    pub unix: Option<String>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call was refused, for the reason of this number (`ebpf/README.md`).
    Refused(u32),
    /// The same, because the daemon does not listen in the socket's network namespace.
    UnknownNetns,
    /// A redirected socket was closed.
    FlowEnd {
        /// Bytes of payload that the other end acknowledged.
        sent: u64,
        /// Bytes of payload received.
        received: u64,
    },
}

/// How old an event is at least before it is heard: its session's own end is there by then, most
/// often. At 10,000 flows a second the ring, 10,900 events, holds twice as long.
pub const SETTLED: Duration = Duration::from_millis(500);

/// What there is to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The oldest event that was not heard yet.
    Event(Event),
    /// That one is [`SETTLED`] after this long.
    Settling(Duration),
    /// No event.
    Nothing,
}

/// The ring, to be read by one thread.
pub struct Events {
    ring: Ring,
    dropped: PerCpuArray<MapData, u64>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Kernel {
    /// The ring of events; once, then none.
    pub fn take_events(&self) -> Option<Events> {
        self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

impl Events {
    pub(crate) fn take(object: &mut aya::Ebpf) -> Result<Self, Error> {
        let mut take = |name| object.take_map(name).ok_or(Error::Missing(name));
        let (Map::RingBuf(ring), dropped) = (take(map::EVENTS)?, take(map::DROPPED)?) else {
            return Err(Error::Missing(map::EVENTS));
        };
        let ring = Ring::open(ring).map_err(|source| Error::Call { call: "mmap", source })?;
        let failed = |source| Error::Map { name: map::DROPPED, source };
        Ok(Self { ring, dropped: dropped.try_into().map_err(failed)? })
    }

    /// Waits until there is an event, heard or not, that was not released; or for this long.
    pub fn wait(&self, patience: Duration) -> Result<(), Error> {
        sys::poll_in(self.ring.as_fd(), patience)
            .map_err(|source| Error::Call { call: "poll", source })
    }

    /// Hears the next event. It stays in the ring, and so is told to the next daemon if this one is
    /// killed, until [`Events::release`]. One that makes no sense is passed over.
    pub fn hear(&mut self) -> Heard {
        while let Some(record) = self.ring.read() {
            if let Some(event) = read(record) {
                let now_ns = sys::boottime_ns().unwrap_or(u64::MAX);
                let age = Duration::from_nanos(now_ns.saturating_sub(event.at_ns));
                if age < SETTLED {
                    return Heard::Settling(SETTLED.saturating_sub(age));
                }
                self.ring.pass();
                return Heard::Event(event);
            }
            self.ring.pass();
        }
        Heard::Nothing
    }

    /// Forgets what was heard: what came of it must be durable.
    pub fn release(&mut self) {
        self.ring.release();
    }

    /// Events that found the ring full, since the programs were first armed.
    pub fn dropped(&self) -> Result<u64, Error> {
        let counts = self.dropped.get(&0, 0);
        let failed = |source| Error::Map { name: map::DROPPED, source };
        counts.map(|counts| counts.iter().sum()).map_err(failed)
    }
}

fn read(item: &[u8]) -> Option<Event> {
    if let Some(UnixRefusal { event, length, name, pad: _ }) = sys::unix_refusal(item) {
        let name = name.get(..usize::try_from(length).ok()?)?;
        return understood(event).map(|event| Event { unix: Some(unix_name(name)), ..event });
    }
    sys::kernel_event(item).and_then(understood)
}

/// As ss(8) shows it; bytes that are no text are shown as such.
fn unix_name(name: &[u8]) -> String {
    let text = match name.strip_prefix(b"\0") {
        Some(name) => [b"@", name].concat(),
        None => name.to_vec(),
    };
    text.utf8_chunks().fold(String::new(), |mut shown, chunk| {
        shown.extend(chunk.valid().chars().map(|char| if char.is_control() { '?' } else { char }));
        shown.extend(chunk.invalid().iter().map(|_| '?'));
        shown
    })
}

fn understood(event: KernelEvent) -> Option<Event> {
    let KernelEvent {
        kind,
        reason,
        at_ns,
        cgroup,
        netns_cookie,
        socket_cookie,
        bytes_sent,
        bytes_received,
        address,
        family,
        tgid,
        port,
        protocol,
        pad: _,
    } = event;
    let kind = match kind {
        event::REFUSED => Kind::Refused(reason),
        event::UNKNOWN_NETNS => Kind::UnknownNetns,
        event::FLOW_END => Kind::FlowEnd { sent: bytes_sent, received: bytes_received },
        _ => return None,
    };
    Some(Event {
        kind,
        at_ns,
        cgroup: CgroupId(cgroup),
        netns_cookie,
        socket_cookie,
        tgid,
        destination: ip(family, address).map(|ip| SocketAddr::new(ip, port)),
        protocol,
        unix: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_unix_sockets_are_text() {
        assert_eq!(unix_name(b"/run/x"), "/run/x");
        assert_eq!(unix_name(b"\0x\0y\n\xff"), "@x?y??");
        assert_eq!(unix_name(b""), "");
    }
}
