"""``wasi:http/client`` of WASI 0.3: requests of a guest's own, by the client of ``outgoing-handler`` of 0.2."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from ..awaited import Await
from ..pipes import Pipe
from ..values import Err, Ok, Value
from .download import DownloadStream, FutureResponse, IncomingResponse
from .ends import Answer, DownloadSource, FutureValue, Ignored, TrailersSource
from .fields import Fields
from .host import WasiHost
from .http3 import Request, Response
from .offers import offer
from .outgoing import OutgoingRequest, RequestOptions, prepared
from .upload import UploadBody

_SOON = 0.001
"""Seconds after which a request is sent whose body is not whole, if its guest waits for nothing meanwhile."""


class _Upload(Answer):
    """The body of a request on its way."""

    def __init__(self, body: UploadBody, sent: FutureValue) -> None:
        super().__init__(self._put, body.room, self._end, sent)
        self._body = body
        self.problem: Value = None
        """What is wrong with the request, as an error code."""

    def _put(self, data: bytes) -> None:
        if self._body.exceeds(data):
            self.problem = ("HTTP-request-body-size", None)
        elif not self._body.abandoned:
            self._body.put(data)

    def _end(self, trailers: Fields | None) -> None:
        done = self._body.finish(trailers)
        if isinstance(done, Err):
            self.problem = done.value

    def set_trailers(self, value: Ok | Err) -> None:
        super().set_trailers(value)
        if isinstance(value, Err):
            self.problem = value.value
            self._body.dropped()

    def gone(self) -> bool:
        return self._body.abandoned or self.problem is not None


class _Received(Response):
    """The answer to a request."""

    def __init__(self, answer: IncomingResponse, cancel: Callable[[], None]) -> None:
        body = answer.body
        assert body is not None
        assert isinstance(body.stream, DownloadStream)
        trailers = Pipe(source=TrailersSource(body.trailers))
        super().__init__(answer.headers, Pipe(source=DownloadSource(body.stream)), trailers)
        self.status = answer.status
        self._cancel = cancel

    def dropped(self) -> None:
        super().dropped()
        self._cancel()


@offer("wasi:http/client@0.3", "send", "async func(request: request) -> result<response, variant {...}>")
def send(host: WasiHost, request: Request) -> Value | Await:
    asked, options = OutgoingRequest(request.headers), RequestOptions()
    asked.given = request.given
    if request.options is not None:
        options.given = request.options.given
    if request.contents is not None:
        asked.body = UploadBody(host, asked.declared())
    answer = prepared(host, asked, options)
    if isinstance(answer, Err):
        request.refuse(answer)
        return answer
    upload = None
    if asked.body is None or request.contents is None:
        host.attach(request.trailers, Ignored())
    else:
        upload = _Upload(asked.body, request.sent)
        upload.attach(host, request.contents, request.trailers)
    return Await(partial(_answered, host, answer, request, upload))


async def _answered(host: WasiHost, answer: FutureResponse, request: Request, upload: _Upload | None) -> Value:
    if upload is None or upload.whole:
        answer.begin()
    else:
        host.wakeup.before_wait(answer.begin)
        asyncio.get_running_loop().call_later(_SOON, answer.begin)
    try:
        await answer.answered.wait()
    except asyncio.CancelledError:
        answer.cancel()
        raise
    result = answer.result
    if isinstance(result, Ok):
        if upload is None:
            request.sent.set(Ok())
        return Ok(_Received(result.value, answer.cancel))
    problem = upload.problem if upload is not None and upload.problem is not None else result and result.value
    request.sent.set(Err(problem))
    return Err(problem)
