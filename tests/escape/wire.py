"""How attempts speak to the sinks: a token goes out, the sink's answer comes back."""

import socket

# Long enough for a loaded virtual machine, short enough for a hundred attempts.
PATIENCE_S = 3


def stream(made):
    """A stream socket with a deadline."""
    made.settimeout(PATIENCE_S)
    return made


def tell(connected, context):
    """Sends the token over a connected stream; answers what the sink says."""
    connected.sendall(token(context))
    said = connected.recv(100)
    if not said:
        raise ConnectionResetError("closed without an answer")
    return said.decode(errors="replace")


def token(context):
    """What the sinks look for."""
    return f"[{context['token']}]".encode()


def tcp(context, host=None, family=socket.AF_INET):
    """Connects to a sink and tells it."""
    with stream(socket.socket(family, socket.SOCK_STREAM)) as made:
        made.connect((host or context["local"], context["port"]))
        return tell(made, context)
