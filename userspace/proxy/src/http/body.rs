//! Bodies on their way: the request's up, counted; the answer's down, masked, and its end noted.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use mask::TextStream;
use types::event::{Outcome, Status};

use super::io::Io;
use super::kept::Kept;
use super::shared::Shared;

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The agent acts for nobody any more.
    #[error("whom the agent acts for has lost access ({0})")]
    Gone(&'static str),
    /// The other side failed.
    #[error(transparent)]
    Peer(#[from] hyper::Error),
}

/// A request's body.
pub(super) struct Up {
    inner: Option<Incoming>,
    shared: Rc<Shared>,
}

impl Up {
    pub(super) fn new(inner: Incoming, shared: &Rc<Shared>) -> Self {
        Self { inner: Some(inner), shared: Rc::clone(shared) }
    }
}

impl Body for Up {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Self { inner, shared } = &mut *self;
        if let Some(why) = shared.gone() {
            return Poll::Ready(Some(Err(Broken::Gone(why))));
        }
        let Some(body) = inner else { return Poll::Ready(None) };
        match ready!(Pin::new(body).poll_frame(cx)?) {
            Some(frame) if frame.is_data() => {
                shared.took(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            // Trailers go nowhere: they are what nobody has looked at.
            Some(_) | None => {
                *inner = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// An answer's body, on its way to the agent.
pub(super) struct Down {
    source: Source,
    masks: Option<TextStream>,
    shared: Rc<Shared>,
    agent: Io,
    /// What is written once it ends; nothing once it has.
    ending: Option<Ending>,
}

enum Source {
    /// Our own.
    Whole(Bytes),
    /// The server's.
    Streams(Incoming),
    /// Nothing more.
    Done,
}

/// What is known of a command before its answer has ended.
pub(super) struct Ending {
    /// Its outcome as it will be; interrupted until then.
    pub(super) outcome: Outcome,
    /// What of the answer is recorded.
    pub(super) kept: Kept,
}

impl Down {
    /// An answer of our own; its command has ended.
    pub(super) fn whole(bytes: Vec<u8>, shared: &Rc<Shared>, agent: &Io) -> Self {
        let (shared, agent) = (Rc::clone(shared), agent.clone());
        agent.listen();
        Self { source: Source::Whole(bytes.into()), masks: None, shared, agent, ending: None }
    }

    /// The server's answer.
    pub(super) fn of_server(
        body: Incoming,
        masks: Option<TextStream>,
        ending: Ending,
        (shared, agent): (&Rc<Shared>, &Io),
    ) -> Self {
        let is_empty = body.is_end_stream();
        let (shared, agent) = (Rc::clone(shared), agent.clone());
        let source = Source::Streams(body);
        let mut own = Self { source, masks, shared, agent, ending: Some(ending) };
        if is_empty {
            own.end();
        }
        own
    }

    /// Masks what came, and notes what of it is kept.
    fn passed(&mut self, bytes: Bytes, is_last: bool) -> Bytes {
        let bytes = match &mut self.masks {
            None => bytes,
            Some(masks) => {
                let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 8);
                masks.push(&bytes, &mut out);
                if is_last {
                    masks.finish(&mut out);
                }
                out.into()
            }
        };
        if let Some(Ending { outcome, kept }) = &mut self.ending {
            outcome.bytes_out += bytes.len() as u64;
            kept.push(&bytes);
        }
        if is_last {
            self.end();
        }
        bytes
    }

    /// Notes the end of the answer, before the agent can have its last byte.
    fn end(&mut self) {
        self.source = Source::Done;
        let Some(mut ending) = self.ending.take() else { return };
        ending.outcome.status = status_of(&ending.outcome);
        self.note(ending);
        self.agent.listen();
    }

    fn note(&self, ending: Ending) {
        let Ending { mut outcome, kept } = ending;
        if let Some(masks) = &self.masks {
            outcome.masked = masks.counts();
        }
        outcome.bytes_in += self.shared.taken();
        (outcome.sample, outcome.digest) = kept.finish();
        self.shared.end(outcome);
    }
}

/// A command is in error that was answered with a status that says so.
fn status_of(outcome: &Outcome) -> Status {
    if outcome.error_code.is_some() { Status::Error } else { Status::Ok }
}

impl Body for Down {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let own = &mut *self;
        loop {
            let body = match &mut own.source {
                Source::Done => return Poll::Ready(None),
                Source::Whole(bytes) => {
                    let bytes = std::mem::take(bytes);
                    own.source = Source::Done;
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Source::Streams(body) => body,
            };
            if let Some(why) = own.shared.gone() {
                return Poll::Ready(Some(Err(Broken::Gone(why))));
            }
            let (bytes, is_last) = match ready!(Pin::new(&mut *body).poll_frame(cx)?) {
                None => (Bytes::new(), true),
                Some(frame) => match frame.into_data() {
                    Ok(bytes) => (bytes, body.is_end_stream()),
                    // Trailers may say anything of what was masked.
                    Err(_) => continue,
                },
            };
            let bytes = own.passed(bytes, is_last);
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Done => true,
            Source::Whole(bytes) => bytes.is_empty(),
            // Its end is noted first.
            Source::Streams(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Done => SizeHint::with_exact(0),
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Streams(_) if self.masks.is_some() => SizeHint::default(),
            Source::Streams(body) => body.size_hint(),
        }
    }
}

impl Drop for Down {
    /// What the agent did not see to its end is interrupted.
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            self.note(ending);
        }
    }
}
