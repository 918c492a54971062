//! TCP in a frame: link layer, IP, TCP (RFC 791, RFC 8200, RFC 9293).
//!
//! Checksums are not looked at: what a host captures of its own has none yet. Fragments are told and not put together:
//! TCP does without.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::source::Frame;

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// When it was captured, microseconds since 1970 UTC.
    pub at_us: i64,
    /// Whose it is.
    pub from: SocketAddr,
    /// To whom it goes.
    pub to: SocketAddr,
    /// The number of its first byte.
    pub seq: u32,
    /// The number that is due next from the other side, where it says so.
    pub ack: Option<u32>,
    /// It begins a connection.
    pub syn: bool,
    /// Nothing comes behind it.
    pub fin: bool,
    /// It ends a connection.
    pub rst: bool,
    /// What was captured of what it carries.
    pub payload: &'a [u8],
    /// How much of it was not.
    pub missing: usize,
}

/// What a frame is that is no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Other {
    /// Of a link type that is not known here.
    Link(i32),
    /// No IP: ARP, control frames.
    NoIp,
    /// IP, and no TCP.
    NoTcp,
    /// A part of an IP packet.
    Fragment,
    /// Cut by the capture before its TCP header ends.
    Cut,
    /// Not as its protocol has it.
    Malformed,
}

impl Other {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Link(_) => "unknown_link_type",
            Self::NoIp => "no_ip",
            Self::NoTcp => "no_tcp",
            Self::Fragment => "fragment",
            Self::Cut => "cut_header",
            Self::Malformed => "malformed",
        }
    }
}

// Link types, by the registry of tcpdump.org.
const NULL: i32 = 0;
const ETHERNET: i32 = 1;
const RAW: [i32; 3] = [12, 14, 101];
const LOOP: i32 = 108;
const LINUX_SLL: i32 = 113;
const IPV4: i32 = 228;
const IPV6: i32 = 229;
const LINUX_SLL2: i32 = 276;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IEEE 802.1Q, 802.1ad, and what came before it.
const ETHERTYPES_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// Tags of VLANs in one frame: two are IEEE 802.1ad's.
const TAGS_MAX: usize = 4;
/// Extension headers of one packet (RFC 8200 §4.1 has seven kinds).
const EXTENSIONS_MAX: usize = 16;
const TCP: u8 = 6;

/// The segment in a frame.
///
/// # Errors
/// What the frame is instead.
pub fn read(frame: Frame<'_>) -> Result<Segment<'_>, Other> {
    let Frame { at_us, link, bytes, wire_bytes } = frame;
    let mut reader = Reader { bytes, left: wire_bytes.max(bytes.len()) };
    let version = match link {
        NULL | LOOP => reader.take(4).map(|_| reader.version())?,
        ETHERNET => {
            reader.take(12)?;
            ethertype(&mut reader)?
        }
        LINUX_SLL => {
            reader.take(14)?;
            ethertype(&mut reader)?
        }
        LINUX_SLL2 => {
            let kind = reader.u16()?;
            reader.take(18)?;
            by_ethertype(kind, &mut reader)?
        }
        IPV4 | IPV6 => reader.version(),
        link if RAW.contains(&link) => reader.version(),
        link => return Err(Other::Link(link)),
    };
    let (from, to) = match version {
        Some(4) => ipv4(&mut reader)?,
        Some(6) => ipv6(&mut reader)?,
        None if reader.bytes.is_empty() => return Err(Other::Cut),
        _ => return Err(Other::NoIp),
    };
    tcp(&mut reader, at_us, from, to)
}

/// Reads on from an ethertype, whose number is next; answers the IP version.
fn ethertype(reader: &mut Reader<'_>) -> Result<Option<u8>, Other> {
    let kind = reader.u16()?;
    by_ethertype(kind, reader)
}

fn by_ethertype(mut kind: u16, reader: &mut Reader<'_>) -> Result<Option<u8>, Other> {
    for _ in 0..TAGS_MAX {
        if !ETHERTYPES_VLAN.contains(&kind) {
            break;
        }
        reader.take(2)?;
        kind = reader.u16()?;
    }
    match kind {
        ETHERTYPE_IPV4 => Ok(Some(4)),
        ETHERTYPE_IPV6 => Ok(Some(6)),
        _ => Err(Other::NoIp),
    }
}

fn ipv4(reader: &mut Reader<'_>) -> Result<(IpAddr, IpAddr), Other> {
    let first = reader.u8()?;
    reader.take(1)?;
    let total = usize::from(reader.u16()?);
    reader.take(2)?;
    // More fragments, and where this one belongs.
    let fragment = reader.u16()? & 0x3fff;
    reader.take(1)?;
    let protocol = reader.u8()?;
    reader.take(2)?;
    let [from, to] = [reader.array::<4>()?, reader.array::<4>()?];
    let header = usize::from(first & 15) * 4;
    if first >> 4 != 4 || header < 20 {
        return Err(Other::Malformed);
    }
    // Segments that the network card cuts have no length yet.
    let total = if total == 0 { reader.left + 20 } else { total };
    reader.keep(total.checked_sub(20).ok_or(Other::Malformed)?);
    reader.take(header - 20)?;
    if fragment != 0 {
        return Err(Other::Fragment);
    }
    if protocol != TCP {
        return Err(Other::NoTcp);
    }
    Ok((IpAddr::V4(Ipv4Addr::from(from)), IpAddr::V4(Ipv4Addr::from(to))))
}

fn ipv6(reader: &mut Reader<'_>) -> Result<(IpAddr, IpAddr), Other> {
    if reader.take(4)?.first().is_none_or(|first| first >> 4 != 6) {
        return Err(Other::Malformed);
    }
    let length = usize::from(reader.u16()?);
    let mut next = reader.u8()?;
    reader.take(1)?;
    let [from, to] = [reader.address()?, reader.address()?];
    if length != 0 {
        reader.keep(length);
    }
    for _ in 0..EXTENSIONS_MAX {
        match next {
            TCP => return Ok((from, to)),
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6.
            0 | 43 | 60 | 135 | 139 | 140 => {
                next = reader.u8()?;
                let length = usize::from(reader.u8()?);
                reader.take(length * 8 + 6)?;
            }
            // A fragment that is the whole packet (RFC 6946).
            44 => {
                next = reader.u8()?;
                reader.take(1)?;
                let is_part = reader.u16()? & 0xfff9 != 0;
                reader.take(4)?;
                if is_part {
                    return Err(Other::Fragment);
                }
            }
            // Authentication header: counted in units of 4 B (RFC 4302 §2.2).
            51 => {
                next = reader.u8()?;
                let length = usize::from(reader.u8()?);
                reader.take(length * 4 + 6)?;
            }
            _ => return Err(Other::NoTcp),
        }
    }
    Err(Other::Malformed)
}

fn tcp<'a>(
    reader: &mut Reader<'a>,
    at_us: i64,
    from: IpAddr,
    to: IpAddr,
) -> Result<Segment<'a>, Other> {
    let (from_port, to_port) = (reader.u16()?, reader.u16()?);
    let (seq, ack) = (reader.u32()?, reader.u32()?);
    let (offset, flags) = (reader.u8()?, reader.u8()?);
    reader.take(6)?;
    let header = usize::from(offset >> 4) * 4;
    reader.take(header.checked_sub(20).ok_or(Other::Malformed)?)?;
    // What is padded to the shortest frame is behind the packet's end.
    let payload = reader.bytes.get(..reader.left).unwrap_or(reader.bytes);
    Ok(Segment {
        at_us,
        from: SocketAddr::new(from, from_port),
        to: SocketAddr::new(to, to_port),
        seq,
        ack: (flags & 0x10 != 0).then_some(ack),
        syn: flags & 2 != 0,
        fin: flags & 1 != 0,
        rst: flags & 4 != 0,
        payload,
        missing: reader.left - payload.len(),
    })
}

/// The one way to the bytes of a frame.
struct Reader<'a> {
    bytes: &'a [u8],
    /// How many there were on the wire.
    left: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Other> {
        let is_cut = self.left >= count;
        let (head, rest) = self.bytes.split_at_checked(count).ok_or(if is_cut {
            Other::Cut
        } else {
            Other::Malformed
        })?;
        (self.bytes, self.left) = (rest, self.left - count);
        Ok(head)
    }

    /// The packet ends after so many bytes: what comes behind is the link's.
    fn keep(&mut self, count: usize) {
        self.left = count;
        self.bytes = self.bytes.get(..count).unwrap_or(self.bytes);
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Other> {
        self.take(N)?.try_into().map_err(|_| Other::Malformed)
    }

    fn u8(&mut self) -> Result<u8, Other> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Other> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Other> {
        self.array().map(u32::from_be_bytes)
    }

    fn address(&mut self) -> Result<IpAddr, Other> {
        self.array::<16>().map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)))
    }

    fn version(&self) -> Option<u8> {
        self.bytes.first().map(|first| first >> 4)
    }
}
