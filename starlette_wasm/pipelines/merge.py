"""From the answers of parallel branches to one."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..exceptions import InvalidFunctionResponse
from ..messages import EdgeResponse
from .plan import Call, Parallel

Answers = Mapping[str, EdgeResponse | None]
"""By the branches' names; None if an optional one has none."""


def as_object(step: Parallel, answers: Answers) -> EdgeResponse:
    """Merge into a JSON object with each branch's body: as it is if its content type is JSON, else as a string.

    What is not JSON counts as the failure of its branch. Raises InvalidFunctionResponse.
    """
    members = [f"{json.dumps(branch.name)}:{_member(branch, answers[branch.name])}" for branch in step.branches]
    return _json("{" + ",".join(members) + "}")


def as_collection(answers: Answers) -> EdgeResponse:
    """Make what a function that merges gets: the whole responses, by name."""
    return _json(json.dumps({name: None if answer is None else _fields(answer) for name, answer in answers.items()}))


def _member(branch: Call, answer: EdgeResponse | None) -> str:
    if answer is None:
        return "null"
    kind = answer.headers.get("content-type", "")
    media_type = (kind if isinstance(kind, str) else kind[0]).partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        return json.dumps(answer.body)
    try:
        # As bytes, which may have been base64. The text itself goes on: parsing could round its numbers.
        text = answer.content.decode()
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        if branch.optional:
            return "null"
        target = branch.callee.target
        raise InvalidFunctionResponse(
            target.name, target.version, problem=f"the body is not JSON, as its content-type says: {error}"
        ) from None
    return text


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a value there")


def _fields(answer: EdgeResponse) -> dict[str, object]:
    return {
        "status_code": answer.status_code,
        "headers": answer.headers,
        "body": answer.body,
        "is_base64_encoded": answer.is_base64_encoded,
    }


def _json(text: str) -> EdgeResponse:
    return EdgeResponse(200, {"content-type": "application/json"}, text)
