//! What comes from the two sockets, on its way into the session.

use std::task::{Context, Poll, ready};

use proto::session::Session;
use types::addr::Side;

use super::{End, Relay};
use crate::held::Over;

impl Relay<'_> {
    /// Reads each side once; ready when something came.
    pub(super) fn poll_reads(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let mut came = Poll::Pending;
        for side in [Side::Downstream, Side::Upstream] {
            match self.poll_read(side, cx) {
                Poll::Pending => {}
                ready @ Poll::Ready(Ok(())) => came = ready,
                failed @ Poll::Ready(Err(_)) => return failed,
            }
        }
        came
    }

    fn poll_read(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let (leg, idle) = match side {
            Side::Downstream => (&mut self.downstream, &mut self.idle.downstream),
            Side::Upstream => (&mut self.upstream, &mut self.idle.upstream),
        };
        let is_held = side == Side::Downstream && self.held_back.is_some();
        if *idle || is_held || leg.ended() || !self.session.wants_input(side) {
            return Poll::Pending;
        }
        let worker = self.worker;
        let mut scratch = worker.scratch.borrow_mut();
        let read = leg.poll_read(cx, &mut scratch);
        *idle = read.is_pending();
        let read = match ready!(read) {
            Ok(read) => read,
            Err(error) => return Poll::Ready(Err(End::Socket(side, error))),
        };
        worker.waiters.relayed(read.len());
        let now = self.look_at_clock();
        if read.is_empty() {
            drop(scratch);
            self.give_up(match side {
                Side::Downstream => &Over::Disconnected,
                Side::Upstream => &Over::TargetLost,
            });
            self.session.handle_eof(side, now);
            return Poll::Ready(Ok(()));
        }
        if side == Side::Downstream
            && self.session.at_rest().is_some()
            && self.knowledge.is_behind(read, now)
        {
            self.held_back = Some(read.to_vec());
            drop(scratch);
            self.catch_up(now);
            return Poll::Ready(Ok(()));
        }
        if self.knowledge.is_lost() {
            self.use_known();
        }
        let (wipes, bytes) = (self.session.awaits_password(), read.len());
        self.session.handle_input(side, read, now);
        if wipes && side == Side::Downstream {
            scratch.iter_mut().take(bytes).for_each(|byte| *byte = 0);
        }
        Poll::Ready(Ok(()))
    }
}
