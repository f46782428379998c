"""Functions in Python for the world ``edge``.

::

    from edge import Request, Response, world

    def answer(request: Request) -> Response:
        return Response.text("hello")

    WitWorld = world(answer)
"""

from . import kv, log, queue, trace
from .host import EdgeError
from .http import Fetched, fetch
from .request import Part, Request
from .response import Response, world

__all__ = ["EdgeError", "Fetched", "Part", "Request", "Response", "fetch", "kv", "log", "queue", "trace", "world"]
