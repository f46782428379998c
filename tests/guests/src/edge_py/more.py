"""Beside a function that new has made: the ten examples, and a count that each request finds as it was built."""

import random
from collections.abc import Callable

import web
from edge import Request, Response, world

count = 0


def counted(request: Request) -> Response:
    global count
    count += 1
    body = {"path": request.path, "body": request.text, "count": count, "random": random.random()}
    return Response.json(body, 201)


def world_of(greet: Callable[[Request], Response]) -> type:
    def answer(request: Request) -> Response:
        if request.path.startswith("/py/"):
            return counted(request)
        return greet(request) if request.path == "/greet" else web.answer(request)

    return world(answer)
