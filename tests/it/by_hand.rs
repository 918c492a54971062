//! What scripts that speak the protocol from bare sockets begin with.

/// `exactly` reads as many bytes, `message` one message's kind and body (PostgreSQL, "Message Formats").
pub(crate) const READ: &str = "
import socket, struct
def exactly(s, n):
    b = b''
    while len(b) < n:
        part = s.recv(n - len(b))
        if not part: raise EOFError
        b += part
    return b
def message(s):
    kind, size = struct.unpack('!ci', exactly(s, 5))
    return kind, exactly(s, size - 4)
";
