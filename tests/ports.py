"""Ports of loopback for servers that are processes of their own."""

from __future__ import annotations

import socket

_held: list[socket.socket] = []


def free_port() -> int:
    """Return a port that is given to nobody else until this process ends.

    A socket that does not listen stays bound to it: a server that sets ``SO_REUSEADDR``, as all do, can have the port
    beside that, but no client and no other test is given it meanwhile. Nor does a client that waits for the server
    connect to itself.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _held.append(held)
    return int(held.getsockname()[1])
