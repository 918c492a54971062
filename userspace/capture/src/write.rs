//! Captures that nobody captured: a pcapng file with TCP/IP frames around bytes that were said.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use types::addr::Side;

/// Section header block (draft-ietf-opsawg-pcapng §4.1).
const SECTION: u32 = 0x0a0d_0d0a;
/// Interface description block (§4.2).
const INTERFACE: u32 = 1;
/// Enhanced packet block (§4.3).
const PACKET: u32 = 6;
const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
/// Bare IP, by the registry of tcpdump.org.
const RAW: u32 = 101;
const SNAPLEN: u32 = 262_144;
/// Bytes that one segment carries: a multiple of what readers see at once, well below what IP takes (65,535).
const SEGMENT_BYTES: usize = 16 * 1024;
/// Bytes of one comment: its length has 16 bits.
const COMMENT_BYTES_MAX: usize = 4 * 1024;

const FIN: u8 = 1;
const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// Writes a pcapng file.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Begins a file in which an interface of this name says who made it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn new(out: W, application: &str, interface: &str) -> io::Result<Self> {
        let mut writer = Self { out };
        let mut body = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
        body.extend([1, 0, 0, 0]);
        body.extend((-1_i64).to_le_bytes());
        options(&mut body, &[(APPLICATION, application)]);
        writer.block(SECTION, &body)?;
        let mut body = RAW.to_le_bytes().to_vec();
        body.extend(SNAPLEN.to_le_bytes());
        options(&mut body, &[(INTERFACE_NAME, interface)]);
        writer.block(INTERFACE, &body)?;
        Ok(writer)
    }

    /// Writes an IP packet of a time, microseconds since 1970 UTC, with what is said about it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn packet(&mut self, at_us: i64, packet: &[u8], comments: &[&str]) -> io::Result<()> {
        let at = u64::try_from(at_us).unwrap_or(0).to_le_bytes();
        let [a, b, c, d, high @ ..] = at;
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut body = vec![0; 4];
        body.extend(high);
        body.extend([a, b, c, d]);
        body.extend(length);
        body.extend(length);
        body.extend(packet);
        pad(&mut body);
        let comments: Vec<(u16, &str)> = comments.iter().map(|text| (COMMENT, *text)).collect();
        options(&mut body, &comments);
        self.block(PACKET, &body)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len() + 12).unwrap_or(u32::MAX).to_le_bytes();
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&length)?;
        self.out.write_all(body)?;
        self.out.write_all(&length)
    }
}

/// Options behind a block's body (§3.5).
fn options(body: &mut Vec<u8>, all: &[(u16, &str)]) {
    if all.is_empty() {
        return;
    }
    for (code, text) in all {
        let text = text.get(..text.floor_char_boundary(COMMENT_BYTES_MAX)).unwrap_or(text);
        body.extend(code.to_le_bytes());
        body.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
        body.extend(text.as_bytes());
        pad(body);
    }
    body.extend([0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// A TCP connection that is written as packets.
#[derive(Clone, Debug)]
pub struct Talk {
    client: SocketAddr,
    server: SocketAddr,
    /// The next number of each side.
    down: u32,
    up: u32,
}

impl Talk {
    /// A connection between two ends, written with its handshake.
    ///
    /// # Errors
    /// If it can't be written, or the ends are of two kinds of IP.
    pub fn open<W: Write>(
        writer: &mut Writer<W>,
        client: SocketAddr,
        server: SocketAddr,
        at_us: i64,
        comments: &[&str],
    ) -> io::Result<Self> {
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let (client, server) = (canonical(client), canonical(server));
        let mut talk = Self { client, server, down: 0, up: 0 };
        talk.put(writer, Side::Downstream, (at_us, SYN, &[]), comments)?;
        talk.put(writer, Side::Upstream, (at_us, SYN | ACK, &[]), &[])?;
        talk.put(writer, Side::Downstream, (at_us, ACK, &[]), &[])?;
        Ok(talk)
    }

    /// Writes what a side says; the comments are about all of it, and stand at its first packet.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn say<W: Write>(
        &mut self,
        writer: &mut Writer<W>,
        side: Side,
        (at_us, bytes): (i64, &[u8]),
        comments: &[&str],
    ) -> io::Result<()> {
        let mut comments = comments;
        for part in bytes.chunks(SEGMENT_BYTES) {
            self.put(writer, side, (at_us, PSH | ACK, part), comments)?;
            comments = &[];
        }
        Ok(())
    }

    /// Writes a packet of a side in which nothing is said, for what is said about it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn note<W: Write>(
        &mut self,
        writer: &mut Writer<W>,
        side: Side,
        at_us: i64,
        comments: &[&str],
    ) -> io::Result<()> {
        self.put(writer, side, (at_us, ACK, &[]), comments)
    }

    /// Writes the end of both sides.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn close<W: Write>(
        mut self,
        writer: &mut Writer<W>,
        at_us: i64,
        comments: &[&str],
    ) -> io::Result<()> {
        self.put(writer, Side::Downstream, (at_us, FIN | ACK, &[]), comments)?;
        self.put(writer, Side::Upstream, (at_us, FIN | ACK, &[]), &[])?;
        self.put(writer, Side::Downstream, (at_us, ACK, &[]), &[])
    }

    fn put<W: Write>(
        &mut self,
        writer: &mut Writer<W>,
        side: Side,
        (at_us, flags, payload): (i64, u8, &[u8]),
        comments: &[&str],
    ) -> io::Result<()> {
        let packet = self.packet(side, flags, payload)?;
        writer.packet(at_us, &packet, comments)
    }

    /// The next packet of a side.
    fn packet(&mut self, side: Side, flags: u8, payload: &[u8]) -> io::Result<Vec<u8>> {
        let Self { client, server, .. } = *self;
        let (from, to, seq, ack) = match side {
            Side::Downstream => (client, server, &mut self.down, self.up),
            Side::Upstream => (server, client, &mut self.up, self.down),
        };
        let number = *seq;
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        *seq = number.wrapping_add(length).wrapping_add(u32::from(flags & (SYN | FIN) != 0));
        let ack = if flags & ACK == 0 { 0 } else { ack };
        let mut tcp = Vec::with_capacity(payload.len() + 20);
        tcp.extend(from.port().to_be_bytes());
        tcp.extend(to.port().to_be_bytes());
        tcp.extend(number.to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        // Five words of header; a window as large as it may be; the checksum is put in below.
        tcp.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(payload);
        packet(from.ip(), to.ip(), tcp)
    }
}

/// The place of the checksum in a TCP header (RFC 9293 §3.1).
const TCP_CHECKSUM: usize = 16;
const TCP: u8 = 6;
/// How far packets that were never sent may go.
const HOPS: u8 = 64;

/// An IP packet around TCP.
fn packet(from: IpAddr, to: IpAddr, mut tcp: Vec<u8>) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::other("a packet is longer than IP takes");
    let length = u16::try_from(tcp.len()).map_err(too_long)?.to_be_bytes();
    let mut sum = Sum::default();
    let mut packet = Vec::with_capacity(tcp.len() + 40);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = u16::try_from(tcp.len() + 20).map_err(too_long)?.to_be_bytes();
            packet.extend([0x45, 0]);
            packet.extend(total);
            // Not to be fragmented.
            packet.extend([0, 0, 0x40, 0, HOPS, TCP, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            let mut header = Sum::default();
            header.add(&packet);
            put(&mut packet, 10, header.finish());
            sum.add(&[from.octets(), to.octets()].concat());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(length);
            packet.extend([TCP, HOPS]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            sum.add(&[from.octets(), to.octets()].concat());
        }
        _ => return Err(io::Error::other("the ends of a connection are of two kinds of IP")),
    }
    sum.add(&[0, TCP]);
    sum.add(&length);
    sum.add(&tcp);
    put(&mut tcp, TCP_CHECKSUM, sum.finish());
    packet.extend(tcp);
    Ok(packet)
}

fn put(bytes: &mut [u8], at: usize, checksum: [u8; 2]) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&checksum);
    }
}

/// The checksum of the Internet protocols (RFC 1071); parts but the last have an even length.
#[derive(Default)]
struct Sum(u32);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        let words = bytes.chunks(2).map(|pair| match pair {
            [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
            [high] => u32::from(*high) << 8,
            _ => 0,
        });
        // 65,535 B are 32,768 words of at most 65,535: below 2^31.
        self.0 += words.sum::<u32>();
    }

    fn finish(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
    }
}
