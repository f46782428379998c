// The ten examples of docs/sdk-examples.md, one path for each.
import { fetch, kv, queue, quote, trace } from "@starlette-wasm/edge-assemblyscript/edge";
import { Request, Response, log } from "@starlette-wasm/edge-assemblyscript/web";

// example: hello
function hello(request: Request): Response {
  const name = request.query("name");
  return Response.text(200, `Hello, ${name.length ? name : "world"}!\n`);
}

// example: json
function sum(request: Request): Response {
  const numbers = request.bodyJson.get("numbers").items;
  let total: i64 = 0;
  for (let i = 0; i < numbers.length; i++) total += numbers[i].integer;
  return Response.json(200, `{"sum":${total}}`);
}

// example: query
function tags(request: Request): Response {
  const lines = request.queryAll("tag").map<string>((tag) => tag + "\n");
  return Response.text(200, lines.join(""));
}

// example: cookies
function visits(request: Request): Response {
  const before = request.cookie("visits");
  const count = (before == "" ? 1 : I32.parseInt(before) + 1).toString();
  return Response.text(200, "visit " + count).cookie("visits", count, "Path=/; HttpOnly; SameSite=Lax");
}

// example: form
function order(request: Request): Response {
  const count = request.form("count");
  const item = request.form("item");
  if (!count || !item) return Response.problem(400, "Incomplete order", "send count and item");
  return Response.text(200, `${count} x ${item}`);
}

// example: multipart
function upload(request: Request): Response {
  const parts = request.multipart();
  if (parts.length == 0) return Response.problem(400, "No file", "send multipart/form-data");
  const file = parts[0];
  const bytes = file.body.byteLength;
  return Response.json(200, `{"filename":${quote(file.filename)},"type":${quote(file.type)},"bytes":${bytes}}`);
}

// example: redirect
function moved(_: Request): Response {
  return Response.redirect(308, "/hello?name=Ada");
}

// example: problem
function item(request: Request): Response {
  const id = request.query("id");
  if (id == "" || !isFinite(F64.parseFloat(id)) || I32.parseInt(id).toString() != id) {
    return Response.problem(400, "Not a number", "id is to be a number");
  }
  return Response.text(200, "item " + id);
}

// example: fetch
function rates(_: Request): Response {
  log.info("asking for the rates");
  const got = fetch("https://api.example.com/rates");
  const failure = got.failure;
  if (failure) {
    log.error(failure.message);
    return Response.problem(502, "No rates", failure.code);
  }
  return new Response(got.status, got.body).header("content-type", "application/json");
}

// example: store
function orders(request: Request): Response {
  const span = trace.start("place order");
  const number = kv.increment("shop", "orders");
  if (number.failure) return Response.problem(502, "Not stored", number.failure!.message);
  const sent = queue.publish("orders", request.body, '{"kind":"new"}');
  if (sent.failure) return Response.problem(502, "Not queued", sent.failure!.message);
  trace.end(span.number);
  return Response.text(202, `order ${number.value}`);
}

// example: end
function answer(request: Request): Response {
  const path = request.path;
  if (path == "/hello") return hello(request);
  if (path == "/sum") return sum(request);
  if (path == "/tags") return tags(request);
  if (path == "/visits") return visits(request);
  if (path == "/order") return order(request);
  if (path == "/upload") return upload(request);
  if (path == "/moved") return moved(request);
  if (path == "/item") return item(request);
  if (path == "/rates") return rates(request);
  if (path == "/orders") return orders(request);
  return Response.problem(404, "Not found", "there is no such example");
}

answer(Request.read()).send();
