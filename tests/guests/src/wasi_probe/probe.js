// Runs the script that it is asked to, as the body of a function with these names: for tests of what is imported.
import * as environment from "wasi:cli/environment@0.2.11";
import * as stdin from "wasi:cli/stdin@0.2.11";
import * as stdout from "wasi:cli/stdout@0.2.11";
import * as stderr from "wasi:cli/stderr@0.2.11";
import * as terminalStdin from "wasi:cli/terminal-stdin@0.2.11";
import * as terminalStdout from "wasi:cli/terminal-stdout@0.2.11";
import * as monotonic from "wasi:clocks/monotonic-clock@0.2.11";
import * as wall from "wasi:clocks/wall-clock@0.2.11";
import * as fs from "wasi:filesystem/types@0.2.11";
import * as preopens from "wasi:filesystem/preopens@0.2.11";
import * as poll from "wasi:io/poll@0.2.11";
import * as streams from "wasi:io/streams@0.2.11";
import * as network from "wasi:sockets/instance-network@0.2.11";
import * as tcp from "wasi:sockets/tcp-create-socket@0.2.11";
import * as udp from "wasi:sockets/udp-create-socket@0.2.11";
import * as lookup from "wasi:sockets/ip-name-lookup@0.2.11";
import * as http from "wasi:http/types@0.2.11";
import * as outgoing from "wasi:http/outgoing-handler@0.2.11";
import * as kv from "wasi:keyvalue/store@0.2.0-draft2";
import * as atomics from "wasi:keyvalue/atomics@0.2.0-draft2";
import * as batch from "wasi:keyvalue/batch@0.2.0-draft2";
import * as config from "wasi:config/store@0.2.0-rc.1";
import * as logging from "wasi:logging/logging@0.1.0-draft";

const imported = {
  environment, stdin, stdout, stderr, terminalStdin, terminalStdout, monotonic, wall, fs, preopens, poll, streams,
  network, tcp, udp, lookup, http, outgoing, kv, atomics, batch, config, logging,
};

// What the work gives, or the payload of the error that it threw.
function attempt(work) {
  try {
    return { ok: work() };
  } catch (error) {
    return { error: error && error.payload !== undefined ? error.payload : `${error}` };
  }
}

const bytes = (text) => Uint8Array.from(text, (character) => character.charCodeAt(0));
const drop = (resource) => resource[Symbol.dispose]();

function text(list) {
  let all = "";
  for (let i = 0; i < list.length; i += 8192) all += String.fromCharCode(...list.slice(i, i + 8192));
  return all;
}

// All of an input stream; what broke it off is marked.
function read(stream) {
  let all = "";
  while (true) {
    const given = attempt(() => stream.blockingRead(1000000));
    if (given.error) return given.error.tag === "closed" ? all : `${all}!${given.error.tag}`;
    all += text(given.ok);
  }
}

function request(method, authority, path, { headers = [], scheme = "HTTP" } = {}) {
  const made = new http.OutgoingRequest(http.Fields.fromList(headers.map(([name, value]) => [name, bytes(value)])));
  made.setMethod(typeof method === "string" ? { tag: method } : method);
  made.setScheme({ tag: scheme });
  made.setAuthority(authority);
  made.setPathWithQuery(path);
  return made;
}

function send(asked, body, options) {
  const outbound = body === undefined ? undefined : asked.body();
  const future = outgoing.handle(asked, options);
  if (outbound) {
    const stream = outbound.write();
    for (let i = 0; i < body.length; i += 4096) stream.blockingWriteAndFlush(bytes(body.slice(i, i + 4096)));
    drop(stream);
    http.OutgoingBody.finish(outbound, undefined);
  }
  return future;
}

function wait(future) {
  const pollable = future.subscribe();
  pollable.block();
  drop(pollable);
  const given = future.get().val;
  drop(future);
  if (given.tag === "err") throw { payload: given.val };
  return given.val;
}

function trailersOf(body) {
  const future = http.IncomingBody.finish(body);
  const pollable = future.subscribe();
  pollable.block();
  drop(pollable);
  const given = future.get().val;
  drop(future);
  return given.tag === "ok" ? (given.val ? pairs(given.val) : null) : given;
}

function pairs(fields) {
  return fields.entries().map(([name, value]) => [name, text(value)]);
}

function fetch(asked, body, options) {
  const response = wait(send(asked, body, options));
  const status = response.status();
  const fields = response.headers();
  const headers = pairs(fields);
  drop(fields);
  const incoming = response.consume();
  const stream = incoming.stream();
  const content = read(stream);
  drop(stream);
  const trailers = trailersOf(incoming);
  drop(response);
  return { status, headers, size: content.length, content: content.slice(-40), trailers };
}

const helpers = { attempt, bytes, drop, text, read, request, send, wait, trailersOf, pairs, fetch };

export function handle(script) {
  const names = { ...imported, ...helpers };
  const run = new Function(...Object.keys(names), script);
  const plain = (_, value) =>
    value instanceof Uint8Array ? Array.from(value) : typeof value === "bigint" ? Number(value) : value;
  return JSON.stringify(attempt(() => run(...Object.values(names))), plain) ?? "null";
}
