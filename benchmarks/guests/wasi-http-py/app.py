"""The job of the benchmarks as a handler of wasi:http in Python."""

from componentize_py_types import Ok
from wit_world.exports import IncomingHandler as Handler
from wit_world.imports.wasi_http_types import Fields, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(Handler):
    def handle(self, request, response_out):
        request.path_with_query()
        response = OutgoingResponse(Fields.from_list([("content-type", b"application/json")]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            stream.blocking_write_and_flush(b'{"message":"hello"}')
        OutgoingBody.finish(body, None)
