//! The operator's servers: asked in the agent's place, never the one it chose.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::Resolver;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{DNSClass, Record};
use hickory_resolver::system_conf::read_system_conf;
use tracing::warn;

use crate::message::{Answer, ExtendedError, Question, code_word};

/// How long one server has for one try.
const TRY_PATIENCE: Duration = Duration::from_millis(1_500);

/// Tries, of all servers.
const TRIES: usize = 2;

/// How long a question may take in all; the C library gives up after 5 s (resolv.conf(5)).
const PATIENCE: Duration = Duration::from_millis(4_500);

/// Answers kept: 4,096 × about 1 KiB = 4 MiB; one of 64 KiB stays an exception, as it must be asked
/// for by TCP.
const CACHE_ANSWERS: u64 = 4_096;

/// Answers are kept no longer than a day, absences no longer than 5 minutes (RFC 2308 §5: 1 to 3
/// hours are sensible; a target that appears shall be found sooner).
const POSITIVE_TTL_MAX: Duration = Duration::from_hours(24);
const NEGATIVE_TTL_MAX: Duration = Duration::from_mins(5);

/// The largest datagram taken from a server (DNS Flag Day 2020); what is longer comes by TCP.
const DATAGRAM_BYTES_MAX: u16 = 1_232;

/// The servers, with their cache.
pub(crate) struct Upstream(Option<Resolver<TokioRuntimeProvider>>);

impl Upstream {
    /// Asks `servers`, or those of `/etc/resolv.conf` where there are none given. Where neither
    /// names any, only the hosts file is known, and everything else fails.
    pub(crate) fn new(servers: &[SocketAddr]) -> Self {
        let servers = if servers.is_empty() { system_servers() } else { given(servers) };
        if servers.is_empty() {
            warn!("no DNS server is known: set dns.upstream; names outside the hosts file fail");
            return Self(None);
        }
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let provider = TokioRuntimeProvider::default();
        let mut builder = Resolver::builder_with_config(config, provider);
        *builder.options_mut() = options();
        match builder.build() {
            Ok(resolver) => Self(Some(resolver)),
            Err(error) => {
                warn!(%error, "the DNS servers can't be asked");
                Self(None)
            }
        }
    }

    /// Asks.
    pub(crate) async fn ask(&self, question: &Question) -> Answer {
        let Some(resolver) = &self.0 else {
            let why = ExtendedError::NoReachableAuthority;
            return Answer::error(ResponseCode::ServFail, why, "no DNS server is configured");
        };
        let mut name = question.query().name().to_lowercase();
        name.set_fqdn(true);
        let asked = resolver.lookup(name, question.record_type());
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(found)) => Answer {
                answers: found.answers().iter().filter(|r| is_plain(r)).cloned().collect(),
                ..Answer::default()
            },
            Ok(Err(error)) => failure(error),
            Err(_) => failure(NetError::Timeout),
        }
    }
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.ndots = 0;
    options.timeout = TRY_PATIENCE;
    options.attempts = TRIES;
    options.edns0 = true;
    options.edns_payload_len = DATAGRAM_BYTES_MAX;
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = CACHE_ANSWERS;
    options.positive_max_ttl = Some(POSITIVE_TTL_MAX);
    options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
    options.preserve_intermediates = true;
    options.case_randomization = true;
    options
}

fn given(servers: &[SocketAddr]) -> Vec<NameServerConfig> {
    let server = |server: &SocketAddr| {
        let at = |mut connection: ConnectionConfig| {
            connection.port = server.port();
            connection
        };
        let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
        NameServerConfig::new(server.ip(), true, connections)
    };
    servers.iter().map(server).collect()
}

fn system_servers() -> Vec<NameServerConfig> {
    match read_system_conf() {
        Ok((config, _)) => config.name_servers().to_vec(),
        Err(error) => {
            warn!(%error, "/etc/resolv.conf names no server");
            Vec::new()
        }
    }
}

/// Whether a record may go down: of the Internet's class, and no part of the transport.
fn is_plain(record: &Record) -> bool {
    record.dns_class == DNSClass::IN
}

fn failure(error: NetError) -> Answer {
    let error = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let is_none =
                matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
            if is_none {
                let authorities = none.soa.map(|soa| (*soa).into_record_of_rdata());
                return Answer {
                    code: none.response_code,
                    authorities: authorities.into_iter().collect(),
                    ..Answer::default()
                };
            }
            NetError::Dns(DnsError::ResponseCode(none.response_code))
        }
        error => error,
    };
    let (why, text) = match &error {
        NetError::Timeout | NetError::NoConnections => {
            (ExtendedError::NoReachableAuthority, "the DNS servers do not answer".to_owned())
        }
        NetError::Dns(DnsError::ResponseCode(code)) => {
            (ExtendedError::Other, format!("the DNS server answers {}", code_word(*code)))
        }
        NetError::Io(error) => {
            (ExtendedError::NetworkError, format!("the DNS servers can't be reached: {error}"))
        }
        error => (ExtendedError::NetworkError, format!("the DNS servers' answer is lost: {error}")),
    };
    Answer::error(ResponseCode::ServFail, why, text)
}
