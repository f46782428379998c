"""What a guest reads: stdin, environment and arguments."""

from __future__ import annotations

from ..engine import layout
from ..engine.fast_path import Encoded, Inputs
from ..engine.plan import NO_STRINGS
from ..functions.target import Target
from ..messages import EdgeContext, EdgeRequest
from ..protocols.cgi import cgi_arguments


def inputs_of(
    target: Target, request: EdgeRequest, context: EdgeContext, route: str, client: tuple[str, int] | None
) -> Inputs:
    """Encode stdin, environment and arguments."""
    module = target.plan.module
    environ, args = NO_STRINGS, b""
    if module.reads_environ:
        environ = environ_of(target, request, context, route, client)
    if module.reads_args and target.protocol.name == "cgi":
        args = args_of(target, request, route, client)
    return Inputs(target.protocol.encode(request), environ + args, len(environ) if args else 0)


def environ_of(
    target: Target, request: EdgeRequest, context: EdgeContext, route: str, client: tuple[str, int] | None
) -> bytes:
    """Encode the guest's environment, as a block of layout.strings()."""
    variables = _own_variables(target, context.request_id, context.region, context.traceparent)
    variables += target.protocol.environ(request, route=route or target.route, client=client)
    ours = {name.encode() for name, _ in variables}  # which win over what is granted: each is there once
    values = [each for each in target.environ if each.partition(b"=")[0] not in ours]
    values += (f"{name}={value}".encode("utf-8", "replace") for name, value in variables)
    return layout.strings(values)


def inputs_of_encoded(
    target: Target, encoded: Encoded, request_id: str, region: str, traceparent: str | None
) -> Inputs:
    """Return what a guest reads of a request that C has encoded; if C has not written its environment, with that."""
    assert target.fast_path is not None, "it has encoded the request"
    if target.fast_path.complete:
        return encoded.inputs
    return Inputs(encoded.stdin, own_environ(target, request_id, region, traceparent))


def own_environ(target: Target, request_id: str, region: str, traceparent: str | None) -> bytes:
    """Return what environ_of() does, for protocols that add nothing to it."""
    own = _own_variables(target, request_id, region, traceparent)
    variables = [f"{name}={value}".encode("utf-8", "replace") for name, value in own]
    granted = target.environ
    if traceparent is not None:
        granted = tuple(each for each in granted if not each.startswith(b"TRACEPARENT="))
    return layout.strings([*granted, *variables])


def _own_variables(target: Target, request_id: str, region: str, traceparent: str | None) -> list[tuple[str, str]]:
    variables = []
    if target.function.source.manifest.edge_environment:
        variables = [("EDGE_REQUEST_ID", request_id), ("EDGE_REGION", region)]
    if traceparent is not None:
        variables.append(("TRACEPARENT", traceparent))
    return variables


def args_of(target: Target, request: EdgeRequest, route: str, client: tuple[str, int] | None) -> bytes:
    """Encode the arguments of a cgi guest, as a block of layout.strings()."""
    variables = dict(target.protocol.environ(request, route=route or target.route, client=client))
    given = target.function.source.manifest.args
    return layout.strings([each.encode("utf-8", "replace") for each in cgi_arguments(given, request, variables)])
