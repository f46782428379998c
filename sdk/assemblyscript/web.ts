// What a web function needs beside edge.ts: requests and responses with query, cookies, forms, multipart, redirects,
// problems; logging.
//
//   const request = Request.read();
//   const count = request.cookie("visits");
//   Response.text(200, count).cookie("visits", count, "Path=/; HttpOnly").send();
import { Json, bodyOf, decode, encode, parse, quote, readRequest, respond, respondBytes } from "./edge";

export class Request {
  constructor(readonly json: Json) {}

  static read(): Request {
    return new Request(readRequest());
  }

  get method(): string {
    return this.json.get("method").text;
  }

  get path(): string {
    return this.json.get("path").text;
  }

  /** A path parameter of the rule. */
  param(name: string): string {
    return this.json.get("params").get(name).text;
  }

  /** A header, by its name in lower case. */
  header(name: string): string {
    return this.json.get("headers").get(name).text;
  }

  /** The last value of a key of the query; "" if there is none. */
  query(name: string): string {
    return this.json.get("query").get(name).text;
  }

  /** All values of a key of the query. */
  queryAll(name: string): string[] {
    const all = this.json.get("multi_value_query").get(name);
    if (all.exists) return all.items.map<string>((each) => each.text);
    const one = this.json.get("query").get(name);
    return one.exists ? [one.text] : [];
  }

  get body(): ArrayBuffer {
    return bodyOf(this.json);
  }

  /** The body as JSON; one that is malformed ends the function. */
  get bodyJson(): Json {
    return parse(Uint8Array.wrap(this.body));
  }

  /** A cookie, without the quotes that may be around its value; "" if there is none. */
  cookie(name: string): string {
    const pairs = this.header("cookie").split(";");
    for (let i = 0; i < pairs.length; i++) {
      const at = pairs[i].indexOf("=");
      if (at < 0 || pairs[i].substring(0, at).trim() != name) continue;
      const value = pairs[i].substring(at + 1).trim();
      const quoted = value.length > 1 && value.startsWith('"') && value.endsWith('"');
      return quoted ? value.substring(1, value.length - 1) : value;
    }
    return "";
  }

  /** The last value of a field of a form in the body (application/x-www-form-urlencoded); null if there is none. */
  form(name: string): string | null {
    let found: string | null = null;
    const pairs = decode(this.body).split("&");
    for (let i = 0; i < pairs.length; i++) {
      const at = pairs[i].indexOf("=");
      const key = at < 0 ? pairs[i] : pairs[i].substring(0, at);
      if (unquote(key) == name) found = at < 0 ? "" : unquote(pairs[i].substring(at + 1));
    }
    return found;
  }

  /** The parts of a multipart body; none for a body that is not multipart, or is malformed. */
  multipart(): Part[] {
    const boundary = parameter(this.header("content-type"), "boundary");
    const parts: Part[] = [];
    if (boundary == "") return parts;
    const bytes = Uint8Array.wrap(this.body);
    const line = "--" + boundary;
    let at = find(bytes, line, 0);
    if (at != 0) return parts;
    while (true) {
      at += line.length;
      if (find(bytes, "--", at) == at) return parts;
      const blank = find(bytes, "\r\n\r\n", at);
      const next = blank < 0 ? -1 : find(bytes, "\r\n" + line, blank + 2);
      if (next < 0) return [];
      parts.push(new Part(text(bytes, at, blank), bytes.buffer.slice(blank + 4, next)));
      at = next + 2;
    }
  }
}

/** A part of multipart/form-data; what it has not is "". */
export class Part {
  name: string = "";
  filename: string = "";
  type: string = "";

  constructor(head: string, readonly body: ArrayBuffer) {
    const lines = head.split("\r\n");
    for (let i = 0; i < lines.length; i++) {
      const colon = lines[i].indexOf(":");
      if (colon < 0) continue;
      const name = lines[i].substring(0, colon).toLowerCase();
      const value = lines[i].substring(colon + 1).trim();
      if (name == "content-type") this.type = value;
      if (name != "content-disposition") continue;
      this.name = parameter(value, "name");
      this.filename = parameter(value, "filename");
    }
  }
}

export class Response {
  private headers: Map<string, string> = new Map<string, string>();
  private cookies: string[] = [];

  constructor(readonly status: i32, readonly body: ArrayBuffer = new ArrayBuffer(0)) {}

  static text(status: i32, body: string): Response {
    return new Response(status, encode(body)).header("content-type", "text/plain; charset=utf-8");
  }

  /** `json` is a JSON text. */
  static json(status: i32, json: string): Response {
    return new Response(status, encode(json)).header("content-type", "application/json");
  }

  /** 303 leads to a GET, 307 and 308 keep the method. */
  static redirect(status: i32, location: string): Response {
    return new Response(status).header("location", location);
  }

  /** application/problem+json, RFC 9457. */
  static problem(status: i32, title: string, detail: string): Response {
    const json = `{"title":${quote(title)},"status":${status},"detail":${quote(detail)}}`;
    return new Response(status, encode(json)).header("content-type", "application/problem+json");
  }

  header(name: string, value: string): Response {
    this.headers.set(name, value);
    return this;
  }

  /** `attributes` such as "Path=/; HttpOnly" may be "". */
  cookie(name: string, value: string, attributes: string): Response {
    this.cookies.push(quote(name + "=" + value + (attributes == "" ? "" : "; " + attributes)));
    return this;
  }

  send(): void {
    const members = this.headers.keys().map<string>((name) => quote(name));
    const values = this.headers.values();
    for (let i = 0; i < members.length; i++) members[i] += ":" + quote(values[i]);
    if (this.cookies.length) members.push(`"set-cookie":[${this.cookies.join(",")}]`);
    const headers = `{${members.join(",")}}`;
    const body = decode(this.body);
    if (same(encode(body), this.body)) respond(this.status, headers, body);
    else respondBytes(this.status, headers, this.body);
  }
}

/** Lines of the log, with a level that the host takes over. */
export namespace log {
  export function debug(message: string): void {
    line("DEBUG", message);
  }

  export function info(message: string): void {
    line("INFO", message);
  }

  export function warn(message: string): void {
    line("WARN", message);
  }

  export function error(message: string): void {
    line("ERROR", message);
  }

  function line(level: string, message: string): void {
    process.stderr.write(level + " " + message.replaceAll("\n", " ") + "\n");
  }
}

/** A parameter of a header such as `form-data; name="a"; filename="b.txt"`; "" if there is none. */
function parameter(header: string, name: string): string {
  let at = header.indexOf(";");
  while (at >= 0) {
    const equals = header.indexOf("=", at);
    if (equals < 0) return "";
    const quoted = header.charAt(equals + 1) == '"';
    const begin = quoted ? equals + 2 : equals + 1;
    const close = header.indexOf(quoted ? '"' : ";", begin);
    const end = close < 0 ? header.length : close;
    if (header.substring(at + 1, equals).trim().toLowerCase() == name) return header.substring(begin, end).trim();
    at = header.indexOf(";", end);
  }
  return "";
}

/** A name or value of a form: + is a space, %XX is a byte. */
function unquote(text: string): string {
  const given = Uint8Array.wrap(encode(text));
  const out = new Uint8Array(given.length);
  let length = 0;
  for (let i = 0; i < given.length; i++) {
    const high = given[i] == 0x25 && i + 2 < given.length ? hex(given[i + 1]) : -1;
    const low = high >= 0 ? hex(given[i + 2]) : -1;
    if (low >= 0) i += 2;
    out[length++] = low >= 0 ? <u8>((high << 4) | low) : given[i] == 0x2b ? 0x20 : given[i];
  }
  return decode(out.buffer.slice(0, length));
}

function hex(c: u8): i32 {
  if (c >= 0x30 && c <= 0x39) return c - 0x30;
  const low = c | 0x20;
  return low >= 0x61 && low <= 0x66 ? low - 0x61 + 10 : -1;
}

/** Where an ASCII text begins in bytes, at an offset or behind it; -1 if it does not. */
function find(bytes: Uint8Array, part: string, from: i32): i32 {
  for (let i = from; i <= bytes.length - part.length; i++) {
    let j = 0;
    while (j < part.length && bytes[i + j] == part.charCodeAt(j)) j++;
    if (j == part.length) return i;
  }
  return -1;
}

function text(bytes: Uint8Array, begin: i32, end: i32): string {
  return decode(bytes.buffer.slice(begin, end));
}

function same(one: ArrayBuffer, other: ArrayBuffer): bool {
  if (one.byteLength != other.byteLength) return false;
  return memory.compare(changetype<usize>(one), changetype<usize>(other), one.byteLength) == 0;
}
