"""The ten examples of docs/sdk-examples.md, one path for each."""

from edge import EdgeError, Request, Response, fetch, kv, log, queue, trace, world


# example: hello
def hello(request: Request) -> Response:
    return Response.text(f"Hello, {request.query.get('name', 'world')}!\n")


# example: json
def total(request: Request) -> Response:
    return Response.json({"sum": sum(request.json()["numbers"])})


# example: query
def tags(request: Request) -> Response:
    return Response.text("".join(f"{tag}\n" for tag in request.query_all("tag")))


# example: cookies
def visits(request: Request) -> Response:
    count = 1 + int(request.cookies.get("visits", "0"))
    return Response.text(f"visit {count}").cookie("visits", count, "Path=/; HttpOnly; SameSite=Lax")


# example: form
def order(request: Request) -> Response:
    form = request.form()
    if not {"count", "item"} <= form.keys():
        return Response.problem(400, "Incomplete order", "send count and item")
    return Response.text(f"{form['count']} x {form['item']}")


# example: multipart
def upload(request: Request) -> Response:
    parts = request.multipart()
    if not parts:
        return Response.problem(400, "No file", "send multipart/form-data")
    part = parts[0]
    return Response.json({"filename": part.filename, "type": part.content_type, "bytes": len(part.body)})


# example: redirect
def moved(request: Request) -> Response:
    return Response.redirect("/hello?name=Ada", 308)


# example: problem
def item(request: Request) -> Response:
    number = request.query.get("id", "")
    if not number.isdigit():
        return Response.problem(400, "Not a number", "id is to be a number")
    return Response.text(f"item {number}")


# example: fetch
def rates(request: Request) -> Response:
    log.info("asking for the rates")
    try:
        got = fetch("https://api.example.com/rates")
    except EdgeError as error:
        log.error(error.message)
        return Response.problem(502, "No rates", error.code)
    return Response.json(got.json(), got.status)


# example: store
def orders(request: Request) -> Response:
    try:
        with trace.span("place order"):
            number = kv.increment("shop", "orders")
            queue.publish("orders", request.body, {"kind": "new"})
    except EdgeError as error:
        return Response.problem(502, "Failed", error.message)
    return Response.text(f"order {number}", 202)


# example: end
ROUTES = {
    "/hello": hello, "/sum": total, "/tags": tags, "/visits": visits, "/order": order,
    "/upload": upload, "/moved": moved, "/item": item, "/rates": rates, "/orders": orders,
}  # fmt: skip


def answer(request: Request) -> Response:
    found = ROUTES.get(request.path)
    return found(request) if found else Response.problem(404, "Not found", "there is no such example")


WitWorld = world(answer)
