import { bytesOf, decodeStrictly, toBase64 } from "./bytes.js";
import { log } from "./log.js";
import { Request } from "./request.js";

/** An answer. `body` is a text or bytes, `headers` maps names to a text or a list of texts. */
export class Response {
  constructor(body = "", { status = 200, headers = {} } = {}) {
    this.body = body;
    this.status = status;
    this.headers = headers;
  }

  static text(body, status = 200) {
    return new Response(body, { status, headers: { "content-type": "text/plain; charset=utf-8" } });
  }

  static json(value, status = 200) {
    return new Response(JSON.stringify(value), { status, headers: { "content-type": "application/json" } });
  }

  /** 303 leads to a GET, 307 and 308 keep the method. */
  static redirect(location, status = 303) {
    return new Response("", { status, headers: { location } });
  }

  /** application/problem+json, RFC 9457. */
  static problem(status, title, detail) {
    const body = JSON.stringify({ title, status, detail });
    return new Response(body, { status, headers: { "content-type": "application/problem+json" } });
  }

  header(name, value) {
    this.headers[name] = value;
    return this;
  }

  /** A cookie; `attributes` such as "Path=/; HttpOnly" may be "". */
  cookie(name, value, attributes = "") {
    const before = this.headers["set-cookie"] ?? [];
    return this.header("set-cookie", [...before, `${name}=${value}${attributes && "; "}${attributes}`]);
  }

  toString() {
    const text = typeof this.body === "string" ? this.body : decodeStrictly(bytesOf(this.body));
    return JSON.stringify({
      status_code: this.status,
      headers: this.headers,
      body: text ?? toBase64(this.body),
      is_base64_encoded: text === null,
    });
  }
}

/** The export `handle` of the world edge, from a function of a Request that returns a Response. */
export function serve(answer) {
  return (request) => {
    try {
      return String(answer(new Request(request)));
    } catch (error) {
      log.error(`${error}\n${error.stack ?? ""}`);
      throw error;
    }
  };
}
