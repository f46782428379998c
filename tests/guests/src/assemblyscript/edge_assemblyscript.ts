// Capabilities by JSON: {"op": "kv.get", "namespace": ..., "key": ...}.
import * as edge from "../../../../sdk/assemblyscript/edge";
import { kv, queue, quote, trace } from "../../../../sdk/assemblyscript/edge";

const command = edge.parse(Uint8Array.wrap(edge.bodyOf(edge.readRequest())));

function text(name: string): string {
  return command.get(name).text;
}

function object(name: string): string {
  const value = command.get(name);
  return value.exists ? value.raw : "{}";
}

function answer(result: edge.Result, fields: string): void {
  const failure = result.failure;
  const body = failure
    ? `{"ok":false,"code":${quote(failure.code)},"message":${quote(failure.message)}}`
    : `{"ok":true${fields}}`;
  edge.respond(200, edge.JSON_HEADERS, body);
}

/** A span in a span, with an attribute and an event each, and what is refused. */
function scenario(): void {
  const outer = trace.start("outer", '{"key":"v"}');
  const inner = trace.start("inner");
  const event = trace.event(trace.CURRENT, "tick", '{"n":1}');
  const set = trace.set(outer.number, '{"done":true}');
  const broke = trace.end(inner.number, "it broke");
  const end = trace.end(outer.number);
  const refused = trace.end(outer.number).failure;
  const again = quote(refused ? refused.code : "");
  let first: edge.Result = outer;
  const all: edge.Result[] = [outer, inner, event, set, broke, end];
  for (let i = all.length - 1; i >= 0; i--) if (all[i].failure) first = all[i];
  answer(first, `,"outer":${outer.number},"inner":${inner.number},"again":${again}`);
}

function run(op: string): void {
  const namespace = text("namespace");
  const key = text("key");
  const value = edge.encode(text("value"));
  const ttl = command.get("ttlMs").integer;
  if (op == "http.fetch") {
    const method = text("method") == "" ? "GET" : text("method");
    const redirects = command.get("manualRedirects").isTrue ? 0 : 5;
    const body = edge.encode(text("body"));
    const got = edge.fetch(text("url"), method, object("headers"), body, command.get("timeoutMs").integer, redirects);
    const shown = quote(edge.decode(got.body));
    answer(got, `,"status":${got.status},"headers":${got.headers.raw},"url":${quote(got.url)},"body":${shown}`);
  } else if (op == "kv.get") {
    const entry = kv.get(namespace, key);
    const shown = `,"value":${quote(edge.decode(entry.value))},"etag":${quote(entry.etag)}`;
    answer(entry, `,"found":${entry.found}${entry.found ? shown : ""}`);
  } else if (op == "kv.set") {
    const change = kv.set(namespace, key, value, ttl);
    answer(change, `,"done":${change.done},"etag":${quote(change.etag)}`);
  } else if (op == "kv.delete") {
    const change = kv.remove(namespace, key);
    answer(change, `,"deleted":${change.done}`);
  } else if (op == "kv.cas") {
    const change = kv.compareAndSet(namespace, key, text("etag"), value, ttl);
    answer(change, `,"swapped":${change.done}` + (change.done ? `,"etag":${quote(change.etag)}` : ""));
  } else if (op == "kv.list") {
    const page = kv.list(namespace, text("prefix"), text("cursor"), <i32>command.get("limit").integer);
    const keys = page.keys.map<string>((each) => quote(each)).join(",");
    answer(page, `,"keys":[${keys}]` + (page.cursor == "" ? "" : `,"cursor":${quote(page.cursor)}`));
  } else if (op == "kv.increment") {
    const by = command.get("by");
    const sum = kv.increment(namespace, key, by.exists ? by.integer : 1);
    answer(sum, `,"value":${sum.value}`);
  } else if (op == "trace") {
    scenario();
  } else {
    const sent = queue.publish(text("queue"), edge.encode(text("body")), object("attributes"));
    answer(sent, `,"id":${quote(sent.id)}`);
  }
}

run(text("op"));
