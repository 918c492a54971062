//! What identifies a command that people approve: keyed digests, so that nobody finds a literal by trying.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use types::command::{Command, Parameter, ParameterValue, Risk};
use types::hex::hex;
use types::identity::{Actor, Identity, Subject};
use types::principal::Principal;
use types::target::{Target, UsedCredential};

/// What the key is derived for: a digest here is no hashed value of a column.
const PURPOSE: &[u8] = b"vestibule approval bindings 1";

/// Risks of statements whose literals say what is done: code, names and settings stand in them.
const BY_LITERALS: Risk = Risk::EFFECTS.union(Risk::REINTERPRETS);

/// Makes the digests.
pub struct Bindings(Hmac<Sha256>);

impl std::fmt::Debug for Bindings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bindings(…)")
    }
}

impl Bindings {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let derived = keyed(key).chain_update(PURPOSE).finalize().into_bytes();
        Self(keyed(&derived))
    }

    /// What identifies the very command: who asks, of what, the exact text and each parameter with its type.
    /// `whole` is a digest of the parameters where [`Command`] has not all of them.
    pub fn binding(
        &self,
        who: (&Principal, &Target),
        command: &Command,
        whole: Option<&[u8; 32]>,
    ) -> String {
        let mut fields = self.fields(b'b', who);
        fields.add(command.kind.as_str());
        fields.add(&*command.statement.text);
        fields.count(command.parameters.len());
        for parameter in command.parameters.iter() {
            fields.parameter(parameter);
        }
        fields.option(whole);
        fields.finish()
    }

    /// What identifies commands that are alike: the same without literals and parameters, where those say
    /// nothing of what is done.
    pub fn pattern(&self, who: (&Principal, &Target), command: &Command) -> String {
        let mut fields = self.fields(b'p', who);
        fields.add(command.kind.as_str());
        let statement = &command.statement;
        let text = if statement.risks.intersects(BY_LITERALS) {
            &statement.text
        } else {
            &statement.normalized
        };
        fields.add(&**text);
        fields.add(statement.risks.bits().to_be_bytes());
        fields.count(statement.accesses.len());
        for access in &statement.accesses {
            fields.add(access.action.as_str());
            fields.option(access.table.as_ref().map(ToString::to_string));
        }
        fields.finish()
    }

    fn fields(&self, of: u8, (principal, target): (&Principal, &Target)) -> Fields {
        let mut fields = Fields(self.0.clone());
        fields.add([of]);
        fields.principal(principal);
        fields.target(target);
        fields
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes any key length")
}

/// Fields one behind the other, each with its length before it, so that no two lists are the same bytes.
struct Fields(Hmac<Sha256>);

impl Fields {
    fn add(&mut self, field: impl AsRef<[u8]>) {
        let field = field.as_ref();
        self.count(field.len());
        self.0.update(field);
    }

    fn count(&mut self, count: usize) {
        self.0.update(&(count as u64).to_be_bytes());
    }

    fn option(&mut self, field: Option<impl AsRef<[u8]>>) {
        self.count(usize::from(field.is_some()));
        if let Some(field) = field {
            self.add(field);
        }
    }

    fn principal(&mut self, principal: &Principal) {
        let Principal { agent, instance, chain, identity, process: _, assurance: _ } = principal;
        self.add(agent.as_str());
        self.add(&**instance);
        self.count(chain.len());
        for link in chain.iter() {
            self.add(link.as_str());
        }
        let Identity { subject, actors, owner } = &**identity;
        self.count(usize::from(subject.is_some()));
        if let Some(Subject { user: _, idp, sub, groups: _, token: _ }) = subject {
            self.add(&**idp);
            self.add(&**sub);
        }
        self.count(actors.len());
        for Actor { idp, sub, client } in actors.iter() {
            self.add(&**idp);
            self.add(&**sub);
            self.option(client.as_deref());
        }
        self.option(owner.as_deref());
    }

    fn target(&mut self, target: &Target) {
        let Target { name, addr, host, protocol, database, account, tls: _, credential } = target;
        self.add(&**name);
        self.add(addr.0.to_string());
        self.option(host.as_deref());
        self.add(*protocol);
        self.option(database.as_deref());
        self.option(account.as_deref());
        self.count(usize::from(credential.is_some()));
        if let Some(UsedCredential { name, role }) = credential {
            self.add(&**name);
            self.add(&**role);
        }
    }

    fn parameter(&mut self, parameter: &Parameter) {
        let Parameter { type_oid, value } = parameter;
        self.add(type_oid.to_be_bytes());
        match value {
            ParameterValue::Null => self.add([0]),
            ParameterValue::Text { text, bytes } => {
                self.add([1]);
                self.add(text);
                self.add(bytes.to_be_bytes());
            }
            ParameterValue::Binary { head, bytes } => {
                self.add([2]);
                self.add(head);
                self.add(bytes.to_be_bytes());
            }
        }
    }

    fn finish(self) -> String {
        hex(&self.0.finalize().into_bytes())
    }
}
