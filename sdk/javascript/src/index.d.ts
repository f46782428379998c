/** Functions in JavaScript for the world edge: `export const handle = serve((request) => Response.text("hello"));` */

/** Bytes, or a text that is sent as UTF-8. */
export type Body = Uint8Array | string | null | undefined;

/** Names with a text, or a list of texts for a header that is sent several times. */
export type Headers = Record<string, string | string[]>;

/** Attributes of spans and events. */
export type Attributes = Record<string, string | number | boolean>;

/** What a function is asked. */
export class Request {
  constructor(text: string);
  /** The EdgeRequest as it came. */
  readonly raw: Record<string, unknown>;
  readonly method: string;
  readonly path: string;
  readonly url: string;
  /** By their names in lower case. */
  readonly headers: Record<string, string>;
  /** Of a key that is repeated, the last value; `queryAll` has all. */
  readonly query: Record<string, string>;
  /** Those of the rule's pattern. */
  readonly params: Record<string, string>;
  readonly context: Context;
  readonly bytes: Uint8Array;
  /** By name, without the quotes that may be around a value. */
  readonly cookies: Record<string, string>;
  /** All values of a key of the query. */
  queryAll(name: string): string[];
  text(): string;
  /** The body as JSON. Throws SyntaxError. */
  json(): any;
  /** The fields of a form in the body (application/x-www-form-urlencoded): of a repeated one, the last. */
  form(): Record<string, string>;
  /** The parts of a multipart body; [] for a body that is not multipart. */
  multipart(): Part[];
}

/** Where and how a function runs. */
export interface Context {
  request_id: string;
  region: string;
  cold_start: boolean;
  function: string;
  version: string;
  deadline_ms: number;
  traceparent: string | null;
  tracestate: string | null;
}

/** A part of a multipart body. */
export interface Part {
  name: string;
  filename: string | undefined;
  type: string | undefined;
  body: Uint8Array;
}

/** An answer. */
export class Response {
  constructor(body?: Body, options?: { status?: number; headers?: Headers });
  body: Body;
  status: number;
  headers: Headers;
  static text(body: string, status?: number): Response;
  static json(value: unknown, status?: number): Response;
  /** 303 leads to a GET, 307 and 308 keep the method. */
  static redirect(location: string, status?: number): Response;
  /** application/problem+json, RFC 9457. */
  static problem(status: number, title: string, detail?: string): Response;
  header(name: string, value: string | string[]): this;
  /** A cookie; `attributes` such as "Path=/; HttpOnly" may be left out. */
  cookie(name: string, value: string | number, attributes?: string): this;
  toString(): string;
}

/** The export `handle` of the world edge. */
export function serve(answer: (request: Request) => Response | string): (request: string) => string;

/** A call of the host that failed: `code` is stable, such as "host-not-allowed". */
export class EdgeError extends Error {
  constructor(code: string, message: string);
  readonly code: string;
}

/** What a request that was sent has brought. */
export interface Fetched {
  status: number;
  /** Lists, by names in lower case. */
  headers: Record<string, string[]>;
  url: string;
  body: Uint8Array;
  text(): string;
  /** Throws SyntaxError. */
  json(): any;
}

/** Sends a request to a host that the policy allows. Throws EdgeError. */
export function fetch(
  url: string,
  options?: { method?: string; headers?: Record<string, string>; body?: Body; timeoutMs?: number; maxRedirects?: number },
): Fetched;

/** The key/value namespaces that the policy allows. All throw EdgeError. */
export const kv: {
  get(namespace: string, key: string): { value: Uint8Array; etag: string; text(): string } | null;
  /** The new etag. Without `ttlMs` the value stays for ever. */
  set(namespace: string, key: string, value: Body, ttlMs?: number): string;
  /** Whether there was a value. */
  delete(namespace: string, key: string): boolean;
  /** The cursor is null behind the last key. */
  list(
    namespace: string,
    options?: { prefix?: string; cursor?: string | null; limit?: number },
  ): { keys: string[]; cursor: string | null };
  /** The new value. */
  increment(namespace: string, key: string, by?: number): number;
  /** Sets if the value still has the etag, or if there is no value for a missing one: the new etag, or null. */
  compareAndSet(
    namespace: string,
    key: string,
    etag: string | null | undefined,
    value: Body,
    ttlMs?: number,
  ): string | null;
};

/** The queues that the policy allows. Throws EdgeError. */
export const queue: {
  /** The id of the message. */
  publish(queue: string, body: Body, attributes?: Record<string, string>): string;
};

/** Spans of the function. Without `span` it is the one that was started last, else the function's own. */
export const trace: {
  start(name: string, attributes?: Attributes): number;
  end(span: number, error?: string): void;
  set(attributes: Attributes, span?: number): void;
  event(name: string, attributes?: Attributes, span?: number): void;
  /** What `work` returns, within a span, which is marked with what it throws. */
  within<T>(name: string, work: () => T, attributes?: Attributes): T;
};

/** Lines of the log, with a level that the host takes over. */
export const log: {
  debug(message: unknown): void;
  info(message: unknown): void;
  warn(message: unknown): void;
  error(message: unknown): void;
};

/** The text of bytes in UTF-8; if they are none, each byte beyond ASCII becomes U+FFFD. */
export function decode(bytes: Uint8Array): string;

/** The bytes of a text, in UTF-8. */
export function encode(text: string): Uint8Array;
