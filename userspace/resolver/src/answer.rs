//! One question from its bytes to its answer. A new reader starts here.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::{A, AAAA, PTR};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use policy::lookup::{self, Lookup};
use tracing::{debug, warn};
use types::decision::Decision;
use types::principal::Principal;

use crate::client::Client;
use crate::ledger::NotRecorded;
use crate::message::{Answer, ExtendedError, Question};
use crate::server::Forwarder;

/// How long clients may keep what the hosts file says: it may change.
const HOSTS_TTL_S: u32 = 60;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    /// Its name in policies.
    fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    fn encode(self, question: &Question, answer: &Answer) -> Vec<u8> {
        match self {
            Self::Udp => question.datagram(answer),
            Self::Tcp => question.message(answer),
        }
    }
}

impl Forwarder {
    /// Answers a question: decides it, records it, asks, records the answer, and only then gives it.
    pub(crate) async fn answer(
        &self,
        client: &Client,
        question: &Question,
        (transport, bytes_in): (Transport, usize),
    ) -> Vec<u8> {
        let now = self.ledger.clock.now();
        if let Err(spent) = self.budgets.borrow_mut().begin(client.enrolled, now.mono_ns) {
            self.limited(client, spent.to_record);
            let text = "vestibule: too many questions at once";
            let answer = Answer::error(ResponseCode::Refused, ExtendedError::Prohibited, text);
            return transport.encode(question, &answer);
        }
        let answered = self.decided(client, question, (transport, bytes_in)).await;
        self.budgets.borrow_mut().end(client.enrolled);
        answered.unwrap_or_else(|error| {
            warn!(session = %client.session, %error, "a question can't be recorded");
            let text = "vestibule: nothing can be recorded";
            let answer = Answer::error(ResponseCode::ServFail, ExtendedError::NotReady, text);
            transport.encode(question, &answer)
        })
    }

    async fn decided(
        &self,
        client: &Client,
        question: &Question,
        (transport, bytes_in): (Transport, usize),
    ) -> Result<Vec<u8>, NotRecorded> {
        let lookup = self.lookup(client, question, transport);
        let now = client.acting.borrow_mut().now(client.session, &self.resources, &self.ledger)?;
        let decision = match now.ended {
            Some(why) => now.policy.identity_ended(why),
            None => now.policy.resolve(&lookup, self.ledger.clock.now().unix_us),
        };
        let counters = &self.resources.counters;
        counters.queries.up();
        let command = (client.session, client.next_command());
        let begun = self.ledger.begin(command, (&lookup, question), (&decision, now.identity))?;
        let answer = if decision.is_allow() {
            // The name itself can carry data out: nobody is asked before its record is durable.
            self.ledger.durable(begun).await?;
            self.resolve(client, question).await
        } else {
            counters.refused.up();
            refusal(&decision)
        };
        let bytes = transport.encode(question, &answer);
        let sizes = (bytes_in, bytes.len());
        let ended = self.ledger.end(command, &answer, !decision.is_allow(), sizes)?;
        self.ledger.durable(ended).await?;
        debug!(session = %client.session, code = ?answer.code, "answered");
        Ok(bytes)
    }

    fn lookup(&self, client: &Client, question: &Question, transport: Transport) -> Lookup {
        let (name, record_type) = (Arc::clone(&question.name), question.mnemonic());
        let targets = &self.resources.targets;
        let hosts = &self.hosts;
        let (is_target, is_listed) = if let Some(ip) = reverse(question) {
            let now_ns = self.ledger.clock.now().mono_ns;
            let is_known = !self.resources.names.of(client.enrolled, ip, now_ns).is_empty();
            (targets.has_address(ip), is_known)
        } else {
            let is_listed = targets.is_listed(&name) || hosts.addresses(&name).is_some();
            (targets.is_target(&name), is_listed)
        };
        Lookup {
            action: lookup::action(&record_type),
            name,
            record_type,
            is_target,
            is_listed,
            server: client.server.ip().to_string().into(),
            transport: transport.as_str(),
        }
    }

    /// From the hosts file, or else from the operator's servers.
    async fn resolve(&self, client: &Client, question: &Question) -> Answer {
        let answer = match self.listed_in_hosts(question) {
            Some(answer) => answer,
            None => self.upstream.ask(question).await,
        };
        if answer.code == ResponseCode::ServFail {
            self.resources.counters.failed.up();
        }
        let now_ns = self.ledger.clock.now().mono_ns;
        let ttl_s = answer.answers.iter().map(|record| record.ttl).min().unwrap_or(0);
        for ip in answer.answers.iter().filter_map(|record| record.data.ip_addr()) {
            // The name that was asked, not the aliases on the way: those the agent did not choose.
            self.resources.names.learn(client.enrolled, &question.name, (ip, ttl_s), now_ns);
        }
        answer
    }

    fn listed_in_hosts(&self, question: &Question) -> Option<Answer> {
        let owner = question.query().name();
        let record = |data| Record::from_rdata(owner.clone(), HOSTS_TTL_S, data);
        let answers = if let Some(ip) = reverse(question) {
            let names = self.hosts.names(ip).iter().filter_map(|name| {
                let mut name = Name::from_ascii(name).ok()?;
                name.set_fqdn(true);
                Some(record(RData::PTR(PTR(name))))
            });
            let names: Vec<_> = names.collect();
            (!names.is_empty()).then_some(names)?
        } else {
            let addresses = self.hosts.addresses(&question.name)?.iter();
            let of_type = addresses.filter_map(|ip| match (ip, question.record_type()) {
                (IpAddr::V4(ip), RecordType::A) => Some(record(RData::A(A(*ip)))),
                (IpAddr::V6(ip), RecordType::AAAA) => Some(record(RData::AAAA(AAAA(*ip)))),
                _ => None,
            });
            of_type.collect()
        };
        Some(Answer { answers, ..Answer::default() })
    }

    fn limited(&self, client: &Client, to_record: Option<u64>) {
        self.resources.counters.limited.up();
        let Some(unrecorded) = to_record else { return };
        let acting = client.acting.borrow();
        let Principal { agent, instance, .. } = acting.principal();
        let detail = format!(
            r#"{{"agent":"{agent}","instance":"{instance}","session_id":"{}","unrecorded_before":{unrecorded}}}"#,
            client.session
        );
        if let Err(error) = self.ledger.recorder.control("dns.limited", &detail) {
            warn!(%error, "a limit could not be recorded");
        }
    }
}

/// The address that a reverse look-up asks the name of.
fn reverse(question: &Question) -> Option<IpAddr> {
    if question.record_type() != RecordType::PTR {
        return None;
    }
    let network = question.query().name().parse_arpa_name().ok()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}

fn refusal(decision: &Decision) -> Answer {
    let text = format!("vestibule: {} ({})", decision.reason, decision.rule());
    Answer::error(ResponseCode::Refused, ExtendedError::Blocked, text)
}
