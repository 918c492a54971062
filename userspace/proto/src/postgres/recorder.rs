//! What is recorded beside the commands themselves: when they went to the server, and digests of whole
//! responses, where policy asks for them: over the messages that went to the agent.

use sha2::{Digest, Sha256};
use types::clock::Timestamp;
use types::decision::Keep;

use super::PostgresSession;
use super::expect::{Expect, InFlight};
use super::sample::Sample;

/// Whether responses are digested, and how far that is.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// How many commands in flight ask for it.
    asked: usize,
    /// How much of what waits for the agent was there before, or belongs to commands that ended.
    done: usize,
}

impl Recorder {
    /// Has a command's response digested, and so much of it kept in words.
    pub(super) fn record(&mut self, command: &mut InFlight, keep: Keep) {
        self.asked += 1;
        command.sample = Sample::of(keep.words());
        command.digest = Some(Box::new(Sha256::new()));
    }
}

impl PostgresSession {
    /// Takes note that what waited for the server is being written to it, at `now`.
    pub fn sent(&mut self, now: Timestamp) {
        let mut is_kept_back = self.holds_back();
        for expect in self.expects.iter_mut().rev() {
            // What was taken back with a command that is held goes with it.
            is_kept_back &=
                !matches!(expect, Expect::Sync | Expect::Query(_) | Expect::Function(_));
            if is_kept_back {
                continue;
            }
            let commands = match expect {
                Expect::Query(batch) => batch.commands.make_contiguous(),
                other => other.command().map(std::slice::from_mut).unwrap_or_default(),
            };
            for command in commands {
                if command.sent_at.is_some() {
                    return;
                }
                command.sent_at = Some(now);
            }
        }
    }

    /// Takes the server's next messages as [`PostgresSession::take_server`] does, and digests what goes
    /// to the agent of the command that they answer.
    pub(super) fn take_digested(&mut self, bytes: &[u8]) -> usize {
        if self.recorder.asked == 0 {
            return self.take_server(bytes);
        }
        self.recorder.done = self.transmit.downstream.len();
        let is_answer = self.expects.front_mut().and_then(Expect::command).is_some();
        let taken = self.take_server(bytes);
        let waiting = self.transmit.downstream.pending();
        let fresh = waiting.get(self.recorder.done..).unwrap_or_default();
        let command = self.expects.front_mut().and_then(Expect::command).filter(|_| is_answer);
        if let Some(digest) = command.and_then(|command| command.digest.as_mut()) {
            digest.update(fresh);
        }
        taken
    }

    /// At the end of a command: the digest of its response.
    pub(super) fn digest_of(&mut self, command: &mut InFlight) -> Option<[u8; 32]> {
        if self.recorder.asked == 0 {
            return None;
        }
        let waiting = self.transmit.downstream.pending();
        let fresh = waiting.get(self.recorder.done..).unwrap_or_default();
        self.recorder.done = waiting.len();
        let mut digest = command.digest.take()?;
        self.recorder.asked -= 1;
        digest.update(fresh);
        Some(digest.finalize().into())
    }
}
