// As much JSON as a function needs: values are looked up in the bytes, strings decoded on demand.

let bytes = new Uint8Array(0);

/** The value between two offsets of the text; empty where there is none. */
export class Json {
  constructor(private start: i32, private end: i32) {}

  /** The member `key` of an object, the last where it is repeated. */
  get(key: string): Json {
    let found = new Json(0, 0);
    if (this.start == this.end || bytes[this.start] != 0x7b) return found;
    let at = space(this.start + 1);
    while (bytes[at] == 0x22) {
      const colon = space(skipString(at));
      const name = new Json(at, colon);
      at = space(colon + 1);
      const member = new Json(at, skip(at, 0));
      if (name.text == key) found = member;
      at = space(member.end);
      if (bytes[at] == 0x2c) at = space(at + 1);
    }
    return found;
  }

  /** A string decoded; "" for any other value. */
  get text(): string {
    if (this.start == this.end || bytes[this.start] != 0x22) return "";
    const from = this.start + 1;
    const raw = String.UTF8.decodeUnsafe(bytes.dataStart + from, skipString(this.start) - 1 - from);
    return raw.includes("\\") ? unescape(raw) : raw;
  }
}

/** Reads a JSON text; one that is malformed ends the function with exit code 1. */
export function parse(text: Uint8Array): Json {
  bytes = text;
  const start = space(0);
  const end = skip(start, 0);
  if (space(end) < bytes.length) fail(end);
  return new Json(start, end);
}

export function quote(text: string): string {
  const parts: string[] = ['"'];
  let plain = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c >= 0x20 && c != 0x22 && c != 0x5c) continue;
    parts.push(text.substring(plain, i));
    parts.push(c < 0x20 ? "\\u00" + (c < 0x10 ? "0" : "") + c.toString(16) : "\\" + text.charAt(i));
    plain = i + 1;
  }
  parts.push(text.substring(plain));
  parts.push('"');
  return parts.join("");
}

function fail(at: i32): void {
  process.stderr.write(`bad JSON at byte ${at}\n`);
  process.exit(1);
}

/** The byte at an offset, 0 behind the end. */
function peek(at: i32): u8 {
  return at < bytes.length ? bytes[at] : 0;
}

function expect(c: u8, at: i32): i32 {
  if (peek(at) != c) fail(at);
  return at + 1;
}

function space(at: i32): i32 {
  for (let c = peek(at); c == 0x20 || c == 0x0a || c == 0x0d || c == 0x09; c = peek(at)) at++;
  return at;
}

function skipString(at: i32): i32 {
  at = expect(0x22, at);
  for (let c = peek(at); c != 0x22; c = peek(at)) {
    if (c < 0x20) fail(at);
    at += c == 0x5c ? 2 : 1;
  }
  return at + 1;
}

function isScalar(c: u8): bool {
  return (c >= 0x30 && c <= 0x39) || (c >= 0x61 && c <= 0x7a) || c == 0x2b || c == 0x2d || c == 0x2e || c == 0x45;
}

/** The offset behind the value at `at`. */
function skip(at: i32, depth: i32): i32 {
  if (depth > 128) fail(at);
  const open = peek(at);
  if (open == 0x22) return skipString(at);
  if (open != 0x7b && open != 0x5b) {
    if (!isScalar(open)) fail(at);
    while (isScalar(peek(at))) at++;
    return at;
  }
  const close: u8 = open + 2;
  at = space(at + 1);
  if (peek(at) == close) return at + 1;
  while (true) {
    if (open == 0x7b) at = space(expect(0x3a, space(skipString(at))));
    at = space(skip(at, depth + 1));
    if (peek(at) == close) return at + 1;
    at = space(expect(0x2c, at));
  }
}

function unescape(raw: string): string {
  const units = new Uint16Array(raw.length);
  let length = 0;
  for (let i = 0; i < raw.length; i++) {
    let c = raw.charCodeAt(i);
    if (c == 0x5c) {
      c = raw.charCodeAt(++i);
      if (c == 0x75) {
        const code = parseInt(raw.substr(i + 1, 4), 16);
        c = isNaN(code) ? 0xfffd : <i32>code;
        i += 4;
      } else {
        c = control(c);
      }
    }
    units[length++] = <u16>c;
  }
  return String.UTF16.decodeUnsafe(units.dataStart, length << 1);
}

/** The character that `\c` stands for. */
function control(c: i32): i32 {
  switch (c) {
    case 0x62: return 0x08;
    case 0x66: return 0x0c;
    case 0x6e: return 0x0a;
    case 0x72: return 0x0d;
    case 0x74: return 0x09;
    default: return c;
  }
}
