"""A process for every request: ``wasmtime run`` of compiled code, stdin and stdout through pipes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from functools import cache
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .. import peers
from ..layout import GUESTS, work


@cache
def compiled() -> Path:
    file = work() / "job.run.cwasm"
    subprocess.run([peers.wasmtime(), "compile", "-o", file, GUESTS / "job.wasm"], check=True, timeout=60)
    return file


async def job(request: Request) -> Response:
    document = {"path": request.url.path, "method": request.method, "headers": dict(request.headers)}
    # A pipe filled beforehand: uvloop fails on a process that ends before its stdin is written, as this one may.
    reader, writer = os.pipe()
    os.write(writer, json.dumps(document).encode())
    os.close(writer)
    try:
        process = await asyncio.create_subprocess_exec(
            peers.wasmtime(), "run", "--allow-precompiled", compiled(), stdin=reader, stdout=asyncio.subprocess.PIPE
        )
    finally:
        os.close(reader)
    out, _ = await process.communicate()
    answer = json.loads(out)
    return Response(answer["body"], answer["status_code"], answer["headers"])


app = Starlette(routes=[Route("/job", job)])
