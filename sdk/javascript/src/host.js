// What the policy grants: fetch, key/value, queues, spans. docs/capabilities.md has the operations.
import { call as hostCall } from "starlette-wasm:edge/host@0.1.0";
import { bytesOf, decode, encode } from "./bytes.js";

const Operation = Object.freeze({
  HTTP_FETCH: 1,
  KV_GET: 2,
  KV_SET: 3,
  KV_DELETE: 4,
  KV_LIST: 5,
  KV_INCREMENT: 6,
  KV_CAS: 7,
  QUEUE_PUBLISH: 8,
  TRACE_START: 9,
  TRACE_END: 10,
  TRACE_SET: 11,
  TRACE_EVENT: 12,
});

/** A call that failed: `code` is stable, such as "host-not-allowed". */
export class EdgeError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "EdgeError";
    this.code = code;
  }
}

/** The call under all the others: fields and a body in, fields and a body out. Throws EdgeError. */
export function call(operation, fields, body) {
  const header = encode(JSON.stringify(fields));
  const content = bytesOf(body);
  const payload = new Uint8Array(4 + header.length + content.length);
  new DataView(payload.buffer).setUint32(0, header.length, true);
  payload.set(header, 4);
  payload.set(content, 4 + header.length);
  const frame = hostCall(operation, payload);
  const end = 4 + new DataView(frame.buffer, frame.byteOffset).getUint32(0, true);
  const { error, ...result } = JSON.parse(decode(frame.subarray(4, end)));
  if (error) throw new EdgeError(error.code, error.message);
  return { ...result, body: frame.subarray(end) };
}

/** Sends a request; the answer has status, headers (lists, by lower-case name), url, body, text() and json(). */
export function fetch(url, { method = "GET", headers = {}, body, timeoutMs, maxRedirects } = {}) {
  const got = call(Operation.HTTP_FETCH, { url, method, headers, timeoutMs, maxRedirects }, body);
  return { ...got, text: () => decode(got.body), json: () => JSON.parse(decode(got.body)) };
}

/** Key/value. Values are texts or bytes, `ttlMs` undefined for ever. */
export const kv = {
  /** {value, etag, text()}, or null. */
  get(namespace, key) {
    const { found, etag, body } = call(Operation.KV_GET, { namespace, key });
    return found ? { value: body, etag, text: () => decode(body) } : null;
  },
  set: (namespace, key, value, ttlMs) => call(Operation.KV_SET, { namespace, key, ttlMs }, value).etag,
  delete: (namespace, key) => call(Operation.KV_DELETE, { namespace, key }).deleted,
  /** {keys, cursor}; the cursor is null behind the last. */
  list(namespace, { prefix = "", cursor, limit } = {}) {
    const page = call(Operation.KV_LIST, { namespace, prefix, cursor, limit });
    return { keys: page.keys, cursor: page.cursor ?? null };
  },
  increment: (namespace, key, by = 1) => call(Operation.KV_INCREMENT, { namespace, key, by }).value,
  /** Sets if the value still has the etag, or if there is no value for an undefined one: the new etag, or null. */
  compareAndSet(namespace, key, etag, value, ttlMs) {
    const result = call(Operation.KV_CAS, { namespace, key, etag: etag ?? undefined, ttlMs }, value);
    return result.swapped ? result.etag : null;
  },
};

export const queue = {
  /** The id of the message. */
  publish: (queue, body, attributes = {}) => call(Operation.QUEUE_PUBLISH, { queue, attributes }, body).id,
};

/** Attributes are texts, numbers and bools. Without `span` it is the one started last, else the function's own. */
export const trace = {
  start: (name, attributes = {}) => call(Operation.TRACE_START, { name, attributes }).span,
  end: (span, error) => void call(Operation.TRACE_END, { span, error }),
  set: (attributes, span) => void call(Operation.TRACE_SET, { span, attributes }),
  event: (name, attributes = {}, span) => void call(Operation.TRACE_EVENT, { span, name, attributes }),
  /** What `work` returns, within a span, which is marked with what it throws. */
  within(name, work, attributes = {}) {
    const span = trace.start(name, attributes);
    try {
      const result = work();
      trace.end(span);
      return result;
    } catch (error) {
      trace.end(span, String(error.message ?? error));
      throw error;
    }
  },
};
