//! One side's socket as the HTTP library drives it, shared with the session, which looks at what comes and goes; the agent's
//! is recorded as it passes.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use types::limits::HTTP_HEAD_BYTES_MAX;

use super::shared::Shared;
use super::taped::Taped;
use crate::leg::Stream;

/// A socket in the library's hands.
#[derive(Clone)]
pub(super) struct Io(Rc<RefCell<Wire>>);

struct Wire {
    stream: Stream,
    shared: Rc<Shared>,
    /// What came since the next request may begin; nothing while none may.
    head: Option<Vec<u8>>,
    /// Whether an end that TLS has no word for is one: where the protocol above says whether anything is missing.
    is_lax: bool,
    /// The agent's, where recordings are sealed.
    taped: Option<Box<Taped>>,
}

/// What is kept of what comes: the head, and what the library reads with it.
const CAUGHT_BYTES_MAX: usize = 2 * HTTP_HEAD_BYTES_MAX;

impl Io {
    /// The agent's; requests come over it.
    pub(super) fn agent(stream: Stream, shared: &Rc<Shared>, taped: Option<Taped>) -> Self {
        let (shared, taped) = (Rc::clone(shared), taped.map(Box::new));
        let head = Some(Vec::new());
        Self(Rc::new(RefCell::new(Wire { stream, shared, head, is_lax: true, taped })))
    }

    /// The server's.
    pub(super) fn server(stream: Stream, shared: &Rc<Shared>) -> Self {
        let shared = Rc::clone(shared);
        Self(Rc::new(RefCell::new(Wire { stream, shared, head: None, is_lax: false, taped: None })))
    }

    /// What a request's head came in; until [`Io::listen`] no other may come.
    pub(super) fn take_head(&self) -> Vec<u8> {
        self.0.borrow_mut().head.take().unwrap_or_default()
    }

    /// The next request may come from here on.
    pub(super) fn listen(&self) {
        self.0.borrow_mut().head = Some(Vec::new());
        self.with_tape(Taped::listen);
    }

    /// The tape of it, where there is one.
    pub(super) fn with_tape(&self, act: impl FnOnce(&mut Taped)) {
        if let Some(taped) = &mut self.0.borrow_mut().taped {
            act(taped);
        }
    }

    /// Whether what came since then begins with this.
    pub(super) fn begins_with(&self, start: &[u8]) -> bool {
        self.0.borrow().head.as_ref().is_some_and(|head| head.starts_with(start))
    }

    /// Bytes that came over the wire, and bytes written to it.
    pub(super) fn carried(&self) -> (u64, u64) {
        let wire = self.0.borrow();
        (wire.stream.wire().came(), wire.stream.wire().written())
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &mut *self.0.borrow_mut();
        let before = buffer.filled().len();
        match ready!(wire.stream.poll_read(cx, buffer)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && wire.is_lax => {}
            read => read?,
        }
        let came = buffer.filled().get(before..).unwrap_or_default();
        wire.shared.moved(came.len());
        if let Some(taped) = &mut wire.taped {
            taped.came(came);
        }
        if let Some(head) = &mut wire.head {
            let room = CAUGHT_BYTES_MAX.saturating_sub(head.len());
            head.extend_from_slice(came.get(..room.min(came.len())).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wire = &mut *self.0.borrow_mut();
        if let Some(taped) = &mut wire.taped
            && let Err(error) = taped.before_write(bytes)
        {
            wire.shared.go("journal_failed");
            return Poll::Ready(Err(io::Error::other(error)));
        }
        let count = ready!(wire.stream.poll_write(cx, bytes))?;
        wire.shared.moved(count);
        if let Some(taped) = &mut wire.taped {
            taped.wrote(count);
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().stream.poll_shutdown(cx)
    }
}
