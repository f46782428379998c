// The ten examples of docs/sdk-examples.md, one path for each.
import { Response, fetch, kv, log, queue, serve, trace } from "@starlette-wasm/edge";

// example: hello
function hello(request) {
  return Response.text(`Hello, ${request.query.name ?? "world"}!\n`);
}

// example: json
function sum(request) {
  const { numbers } = request.json();
  return Response.json({ sum: numbers.reduce((total, number) => total + number, 0) });
}

// example: query
function tags(request) {
  return Response.text(request.queryAll("tag").map((tag) => `${tag}\n`).join(""));
}

// example: cookies
function visits(request) {
  const count = 1 + Number(request.cookies.visits ?? 0);
  return Response.text(`visit ${count}`).cookie("visits", count, "Path=/; HttpOnly; SameSite=Lax");
}

// example: form
function order(request) {
  const { count, item } = request.form();
  if (!count || !item) return Response.problem(400, "Incomplete order", "send count and item");
  return Response.text(`${count} x ${item}`);
}

// example: multipart
function upload(request) {
  const [part] = request.multipart();
  if (!part) return Response.problem(400, "No file", "send multipart/form-data");
  return Response.json({ filename: part.filename, type: part.type, bytes: part.body.length });
}

// example: redirect
function moved() {
  return Response.redirect("/hello?name=Ada", 308);
}

// example: problem
function item(request) {
  const id = request.query.id ?? "";
  if (!/^\d+$/.test(id)) return Response.problem(400, "Not a number", "id is to be a number");
  return Response.text(`item ${id}`);
}

// example: fetch
function rates() {
  log.info("asking for the rates");
  try {
    const got = fetch("https://api.example.com/rates");
    return Response.json(got.json(), got.status);
  } catch (error) {
    log.error(error.message);
    return Response.problem(502, "No rates", error.code);
  }
}

// example: store
function placeOrder(request) {
  const number = kv.increment("shop", "orders");
  queue.publish("orders", request.bytes, { kind: "new" });
  return number;
}

function orders(request) {
  try {
    const number = trace.within("place order", () => placeOrder(request));
    return Response.text(`order ${number}`, 202);
  } catch (error) {
    return Response.problem(502, "Failed", error.message);
  }
}

// example: end
const routes = {
  "/hello": hello, "/sum": sum, "/tags": tags, "/visits": visits, "/order": order,
  "/upload": upload, "/moved": moved, "/item": item, "/rates": rates, "/orders": orders,
};

export const handle = serve((request) => {
  const answer = routes[request.path];
  return answer ? answer(request) : Response.problem(404, "Not found", "there is no such example");
});
