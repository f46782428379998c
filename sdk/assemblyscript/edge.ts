// Read an EdgeRequest, call the host, answer.
//
//   import { TEXT_HEADERS, decode, kv, readRequest, respond } from "./edge";
//
//   const key = readRequest().get("params").get("key").text;
//   const entry = kv.get("cache", key);
//   if (entry.failure) respond(502, TEXT_HEADERS, entry.failure!.message);
//   else respond(entry.found ? 200 : 404, TEXT_HEADERS, decode(entry.value));
//
// For the WASI shim of AssemblyScript. A call that fails gives a result whose `failure` is not null.
import { Json, parse, quote } from "./json";

export { Json, parse, quote };

@external("edge", "call")
declare function hostCall(operation: i32, payload: usize, length: usize): i32;

@external("edge", "take")
declare function hostTake(pointer: usize): i32;

export const JSON_HEADERS = '{"content-type":"application/json"}';
export const TEXT_HEADERS = '{"content-type":"text/plain; charset=utf-8"}';

export const enum Operation {
  HttpFetch = 1,
  KvGet = 2,
  KvSet = 3,
  KvDelete = 4,
  KvList = 5,
  KvIncrement = 6,
  KvCas = 7,
  QueuePublish = 8,
  TraceStart = 9,
  TraceEnd = 10,
  TraceSet = 11,
  TraceEvent = 12,
}

/** What the host, or a server it asked, says when a call fails. `code` is stable. */
export class Failure {
  constructor(readonly code: string, readonly message: string) {}
}

/** Why a call failed, or the object and the body of its result. */
export class Result {
  constructor(readonly failure: Failure | null, readonly fields: Json, readonly body: ArrayBuffer) {}
}

export class Entry extends Result {
  get found(): bool {
    return this.fields.get("found").isTrue;
  }

  get value(): ArrayBuffer {
    return this.body;
  }

  /** Stands for the value in `kv.compareAndSet`. */
  get etag(): string {
    return this.fields.get("etag").text;
  }
}

/** Some of the keys; `cursor` for the next ones, "" behind the last. */
export class Page extends Result {
  get keys(): string[] {
    return this.fields.get("keys").items.map<string>((key) => key.text);
  }

  get cursor(): string {
    return this.fields.get("cursor").text;
  }
}

export class Change extends Result {
  /** Whether it was set, deleted or swapped. */
  get done(): bool {
    const fields = this.fields;
    if (this.failure) return false;
    if (fields.get("deleted").exists) return fields.get("deleted").isTrue;
    return !fields.get("swapped").exists || fields.get("swapped").isTrue;
  }

  get etag(): string {
    return this.fields.get("etag").text;
  }
}

export class Sum extends Result {
  get value(): i64 {
    return this.fields.get("value").integer;
  }
}

export class Sent extends Result {
  get id(): string {
    return this.fields.get("id").text;
  }
}

export class Fetched extends Result {
  get status(): i32 {
    return <i32>this.fields.get("status").integer;
  }

  /** An object of lists, names in lower case. */
  get headers(): Json {
    return this.fields.get("headers");
  }

  /** Where the redirects led. */
  get url(): string {
    return this.fields.get("url").text;
  }
}

/** `headers` is a JSON object; a timeout of 0 is what is left of the invocation. */
export function fetch(
  url: string,
  method: string = "GET",
  headers: string = "{}",
  body: ArrayBuffer = new ArrayBuffer(0),
  timeoutMs: i64 = 0,
  maxRedirects: i32 = 5,
): Fetched {
  let fields = `{"url":${quote(url)},"method":${quote(method)},"headers":${headers},"maxRedirects":${maxRedirects}`;
  if (timeoutMs) fields += `,"timeoutMs":${timeoutMs}`;
  const result = call(Operation.HttpFetch, fields + "}", body);
  return new Fetched(result.failure, result.fields, result.body);
}

export namespace kv {
  export function get(namespace: string, key: string): Entry {
    const result = call(Operation.KvGet, address(namespace, key) + "}");
    return new Entry(result.failure, result.fields, result.body);
  }

  /** A time to live of 0 is for ever. */
  export function set(namespace: string, key: string, value: ArrayBuffer, ttlMs: i64 = 0): Change {
    return change(Operation.KvSet, address(namespace, key) + lifetime(ttlMs), value);
  }

  export function remove(namespace: string, key: string): Change {
    return change(Operation.KvDelete, address(namespace, key) + "}", new ArrayBuffer(0));
  }

  /** A limit of 0 is as many as there may be. */
  export function list(namespace: string, prefix: string = "", cursor: string = "", limit: i32 = 0): Page {
    let fields = `{"namespace":${quote(namespace)},"prefix":${quote(prefix)},"cursor":${quote(cursor)}`;
    if (limit) fields += `,"limit":${limit}`;
    const result = call(Operation.KvList, fields + "}");
    return new Page(result.failure, result.fields, result.body);
  }

  export function increment(namespace: string, key: string, by: i64 = 1): Sum {
    const result = call(Operation.KvIncrement, `${address(namespace, key)},"by":${by}}`);
    return new Sum(result.failure, result.fields, result.body);
  }

  /** Sets where the value still has the etag, or where there is no value for "". */
  export function compareAndSet(
    namespace: string,
    key: string,
    etag: string,
    value: ArrayBuffer,
    ttlMs: i64 = 0,
  ): Change {
    const expected = etag == "" ? "" : `,"etag":${quote(etag)}`;
    return change(Operation.KvCas, address(namespace, key) + expected + lifetime(ttlMs), value);
  }

  function change(operation: Operation, fields: string, value: ArrayBuffer): Change {
    const result = call(operation, fields, value);
    return new Change(result.failure, result.fields, result.body);
  }

  function address(namespace: string, key: string): string {
    return `{"namespace":${quote(namespace)},"key":${quote(key)}`;
  }

  function lifetime(ttlMs: i64): string {
    return ttlMs ? `,"ttlMs":${ttlMs}}` : "}";
  }
}

export namespace queue {
  /** `attributes` is a JSON object of strings. */
  export function publish(queue: string, body: ArrayBuffer, attributes: string = "{}"): Sent {
    const result = call(Operation.QueuePublish, `{"queue":${quote(queue)},"attributes":${attributes}}`, body);
    return new Sent(result.failure, result.fields, result.body);
  }
}

export class Span extends Result {
  /** 0 where nobody records the trace, or where it failed; then what is done with it goes well, and does nothing. */
  get number(): i64 {
    return this.fields.get("span").integer;
  }
}

/** `attributes` is a JSON object of strings, numbers and bools. */
export namespace trace {
  /** For `span`: the one that was started last, of those that are open; else the function's own. */
  export const CURRENT: i64 = -1;

  export function start(name: string, attributes: string = "{}"): Span {
    const result = call(Operation.TraceStart, `{"name":${quote(name)},"attributes":${attributes}}`);
    return new Span(result.failure, result.fields, result.body);
  }

  /** `error` is what went wrong in the span, "" where nothing did. */
  export function end(span: i64, error: string = ""): Result {
    return call(Operation.TraceEnd, `{"span":${span}` + (error == "" ? "}" : `,"error":${quote(error)}}`));
  }

  export function set(span: i64, attributes: string): Result {
    return call(Operation.TraceSet, `{${numbered(span)}"attributes":${attributes}}`);
  }

  export function event(span: i64, name: string, attributes: string = "{}"): Result {
    return call(Operation.TraceEvent, `{${numbered(span)}"name":${quote(name)},"attributes":${attributes}}`);
  }

  function numbered(span: i64): string {
    return span == CURRENT ? "" : `"span":${span},`;
  }
}

/** The call under all the others. `fields` is a JSON object. */
export function call(operation: Operation, fields: string, body: ArrayBuffer = new ArrayBuffer(0)): Result {
  const header = encode(fields);
  const payload = new Uint8Array(4 + header.byteLength + body.byteLength);
  store<u32>(payload.dataStart, header.byteLength);
  payload.set(Uint8Array.wrap(header), 4);
  payload.set(Uint8Array.wrap(body), 4 + header.byteLength);

  const size = hostCall(operation, payload.dataStart, payload.length);
  if (size < 0) return callFailed("edge.call", -size);
  const frame = new ArrayBuffer(size);
  const errno = hostTake(changetype<usize>(frame));
  if (errno) return callFailed("edge.take", errno);

  const length = load<u32>(changetype<usize>(frame));
  const reply = parse(Uint8Array.wrap(frame, 4, length));
  const error = reply.get("error");
  const failure = error.exists ? new Failure(error.get("code").text, error.get("message").text) : null;
  return new Result(failure, reply, frame.slice(4 + length));
}

function callFailed(name: string, errno: i32): Result {
  const failure = new Failure("call-failed", `${name}: errno ${errno}`);
  return new Result(failure, new Json(new Uint8Array(0), 0, 0), new ArrayBuffer(0));
}

export function readRequest(): Json {
  let buffer = new ArrayBuffer(16384);
  let length = 0;
  while (true) {
    const got = process.stdin.read(buffer, length);
    if (got <= 0) return parse(Uint8Array.wrap(buffer, 0, length));
    length += got;
    if (length == buffer.byteLength) {
      const bigger = new ArrayBuffer(2 * length);
      memory.copy(changetype<usize>(bigger), changetype<usize>(buffer), length);
      buffer = bigger;
    }
  }
}

/** The body of a request, decoded. */
export function bodyOf(request: Json): ArrayBuffer {
  const text = request.get("body").text;
  return request.get("is_base64_encoded").isTrue ? fromBase64(text) : encode(text);
}

/** Prints the response; `headers` is a JSON object. */
export function respond(status: i32, headers: string, body: string): void {
  process.stdout.write(encode(`{"status_code":${status},"headers":${headers},"body":${quote(body)}}\n`));
}

/** The same with any bytes as the body. */
export function respondBytes(status: i32, headers: string, body: ArrayBuffer): void {
  const text = toBase64(Uint8Array.wrap(body));
  process.stdout.write(
    encode(`{"status_code":${status},"headers":${headers},"is_base64_encoded":true,"body":"${text}"}\n`),
  );
}

/** UTF-8, with U+FFFD for a lone surrogate. */
export function encode(text: string): ArrayBuffer {
  return String.UTF8.encode(text, false, String.UTF8.ErrorMode.REPLACE);
}

export function decode(bytes: ArrayBuffer): string {
  return String.UTF8.decode(bytes);
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

function toBase64(bytes: Uint8Array): string {
  const digits = new Uint8Array((bytes.length + 2) / 3 * 4).fill(0x3d);
  for (let i = 0, out = 0; i < bytes.length; i += 3, out += 4) {
    const left = bytes.length - i;
    const second: u32 = left > 1 ? bytes[i + 1] : 0;
    const third: u32 = left > 2 ? bytes[i + 2] : 0;
    const bits = (<u32>bytes[i] << 16) | (second << 8) | third;
    for (let j = 0; j <= min(left, 3); j++) digits[out + j] = <u8>ALPHABET.charCodeAt((bits >> (18 - 6 * j)) & 63);
  }
  return String.UTF8.decode(digits.buffer);
}

/** Up to the first character that is no digit. */
function fromBase64(text: string): ArrayBuffer {
  const bytes = new Uint8Array(text.length * 3 / 4);
  let length = 0;
  let bits: u32 = 0;
  for (let i = 0; i < text.length; i++) {
    const digit = ALPHABET.indexOf(text.charAt(i));
    if (digit < 0) break;
    bits = (bits << 6) | digit;
    if (i & 3) bytes[length++] = <u8>(bits >> (6 - 2 * (i & 3)));
  }
  return bytes.buffer.slice(0, length);
}
