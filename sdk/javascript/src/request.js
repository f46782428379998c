import { bytesOf, decode, encode, fromBase64, latin1 } from "./bytes.js";

/** What a function is asked. `params` are those of the rule's pattern; headers have lower-case names. */
export class Request {
  constructor(text) {
    const asked = JSON.parse(text);
    this.raw = asked;
    this.method = asked.method;
    this.path = asked.path;
    this.url = asked.url;
    this.headers = asked.headers;
    this.query = asked.query;
    this.params = asked.params;
    this.context = asked.context;
  }

  /** All values of a key of the query; `query` has the last. */
  queryAll(name) {
    return this.raw.multi_value_query?.[name] ?? (name in this.query ? [this.query[name]] : []);
  }

  get bytes() {
    return this.raw.is_base64_encoded ? fromBase64(this.raw.body) : bytesOf(this.raw.body);
  }

  text() {
    return this.raw.is_base64_encoded ? decode(this.bytes) : (this.raw.body ?? "");
  }

  json() {
    return JSON.parse(this.text());
  }

  /** The cookies by name, without the quotes that may be around a value. */
  get cookies() {
    const pairs = (this.headers.cookie ?? "").split(";").filter((each) => each.includes("="));
    return Object.fromEntries(pairs.reverse().map((each) => {
      const [name, value] = cut(each, "=");
      return [name.trim(), value.trim().replace(/^"(.*)"$/, "$1")];
    }));
  }

  /** The fields of a form in the body (application/x-www-form-urlencoded): of a repeated one, the last. */
  form() {
    const pairs = this.text().split("&").filter(Boolean).map((each) => cut(each, "=").map(unquote));
    return Object.fromEntries(pairs);
  }

  /** The parts of a multipart body, each {name, filename, type, body}; [] for a body that is not multipart. */
  multipart() {
    const boundary = parameter(this.headers["content-type"] ?? "", "boundary");
    if (!boundary) return [];
    const pieces = ("\r\n" + latin1(this.bytes)).split("\r\n--" + latin1(encode(boundary)));
    const end = pieces.findIndex((piece, index) => index > 0 && piece.startsWith("--"));
    return pieces.slice(1, Math.max(end, 1)).map(part);
  }
}

function part(text) {
  const [head, body] = cut(text, "\r\n\r\n");
  const headers = Object.fromEntries(head.trim().split("\r\n").map((line) => {
    const [name, value] = cut(line, ":");
    return [name.toLowerCase(), decode(raw(value.trim()))];
  }));
  const disposition = headers["content-disposition"] ?? "";
  return {
    name: parameter(disposition, "name") ?? "",
    filename: parameter(disposition, "filename"),
    type: headers["content-type"],
    body: raw(body),
  };
}

/** A parameter of a header such as `form-data; name="a"; filename="b.txt"`. */
function parameter(header, name) {
  for (const [, key, quoted, plain] of header.matchAll(/;\s*([^=;\s]+)\s*=\s*(?:"([^"]*)"|([^;\s]*))/g)) {
    if (key.toLowerCase() === name) return quoted ?? plain;
  }
  return undefined;
}

function cut(text, separator) {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + separator.length)];
}

const raw = (text) => Uint8Array.from(text, (character) => character.charCodeAt(0));

function unquote(text) {
  const spaced = text.replace(/\+/g, " ");
  try {
    return decodeURIComponent(spaced);
  } catch {
    return spaced;
  }
}
