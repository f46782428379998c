"""A handler of wasi:http: it asks the host that its path ends with, keeps the answer in a file, and gives both."""

import json
import os
from pathlib import Path

from componentize_py_types import Err, Ok
from wit_world.exports import IncomingHandler as Handler
from wit_world.imports import outgoing_handler
from wit_world.imports.wasi_http_types import (
    Fields,
    IncomingBody,
    OutgoingBody,
    OutgoingRequest,
    OutgoingResponse,
    ResponseOutparam,
    Scheme_Http,
)


def fetch(authority, path):
    asked = OutgoingRequest(Fields())
    asked.set_scheme(Scheme_Http())
    asked.set_authority(authority)
    asked.set_path_with_query(path)
    future = outgoing_handler.handle(asked, None)
    with future.subscribe() as pollable:
        pollable.block()
    given = future.get().value
    if isinstance(given, Err):
        return type(given.value).__name__
    response = given.value
    body = response.consume()
    found = bytearray()
    with body.stream() as stream:
        try:
            while True:
                found += stream.blocking_read(4096)
        except Err:
            pass
    IncomingBody.finish(body)
    return [response.status(), found.decode()]


class IncomingHandler(Handler):
    def handle(self, request, response_out):
        try:
            found = fetch(request.path_with_query().rpartition("/")[2], "/x")
        except Err as error:
            found = type(error.value).__name__
        seen = None
        if os.path.isdir("/data"):
            file = Path("/data/seen.json")
            file.write_text(json.dumps(found))
            seen = [file.read_text(), sorted(os.listdir("/data"))]
        response = OutgoingResponse(Fields.from_list([("content-type", b"application/json")]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            stream.blocking_write_and_flush(json.dumps({"found": found, "seen": seen}).encode())
        OutgoingBody.finish(body, None)
