//! Input in any cuts: messages are taken from the bytes as they came; only what is left of an
//! unfinished or waiting message is kept.

use types::addr::Side;

use super::message::{self, HEADER};
use super::{Phase, PostgresSession};

impl PostgresSession {
    /// Takes the messages that `input` completes and keeps the rest.
    pub(super) fn feed(&mut self, side: Side, mut input: &[u8]) {
        let mut carry = std::mem::take(self.carry.of(side));
        while !input.is_empty() && self.phase != Phase::Ended {
            if self.is_blocked(side) {
                carry.buffer().extend_from_slice(input);
                break;
            }
            if carry.is_empty() {
                let taken = self.take(side, input);
                carry.buffer().extend_from_slice(input.get(taken..).unwrap_or_default());
                break;
            }
            // Complete the first message only; the next ones are read where they lie.
            let count = missing(carry.pending()).clamp(1, input.len());
            let (head, rest) = input.split_at(count);
            carry.buffer().extend_from_slice(head);
            input = rest;
            *self.carry.of(side) = carry;
            self.resume(side);
            carry = std::mem::take(self.carry.of(side));
        }
        if self.phase != Phase::Ended {
            *self.carry.of(side) = carry;
        }
    }

    /// Takes the messages that were kept, as far as they may go now.
    pub(super) fn resume(&mut self, side: Side) {
        let mut carry = std::mem::take(self.carry.of(side));
        if !carry.is_empty() {
            // A decided message is gone from the head before this is called.
            let taken = self.take(side, carry.pending());
            carry.consume(taken);
        }
        if self.phase != Phase::Ended {
            *self.carry.of(side) = carry;
        }
    }

    fn take(&mut self, side: Side, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(rest @ [_, ..]) = bytes.get(at..)
            && self.phase != Phase::Ended
            && !self.is_blocked(side)
        {
            let taken = match side {
                Side::Downstream => self.take_noted(rest),
                Side::Upstream => self.take_digested(rest),
            };
            if taken == 0 {
                break;
            }
            at += taken;
        }
        at
    }
}

impl PostgresSession {
    /// Takes the agent's next message as [`PostgresSession::take_agent`] does, and notes it for the record.
    fn take_noted(&mut self, bytes: &[u8]) -> usize {
        if self.wire.is_none() {
            return self.take_agent(bytes);
        }
        let is_data = self.agent.stream_left > 0;
        let taken = self.take_agent(bytes);
        if taken > 0 {
            self.note_sent(bytes.get(..taken).unwrap_or_default(), is_data);
        }
        taken
    }
}

/// How many bytes the first message of `bytes` still lacks, as far as its head tells.
fn missing(bytes: &[u8]) -> usize {
    match message::header(bytes) {
        Ok(Some(header)) => header.total.saturating_sub(bytes.len()),
        Ok(None) => HEADER.saturating_sub(bytes.len()),
        Err(_) => 1,
    }
}
