// As much JSON as a function needs: values are looked up in the bytes, strings decoded on demand.

/** A value within a text; empty where there is none. */
export class Json {
  constructor(private bytes: Uint8Array, private start: i32, private end: i32) {}

  get exists(): bool {
    return this.start < this.end;
  }

  /** The value as it stands, as JSON. */
  get raw(): string {
    return String.UTF8.decodeUnsafe(this.bytes.dataStart + this.start, this.end - this.start);
  }

  /** The member `key` of an object, the last where it is repeated. */
  get(key: string): Json {
    const bytes = this.bytes;
    let found = new Json(bytes, 0, 0);
    if (!this.opens(0x7b)) return found;
    let at = space(bytes, this.start + 1);
    while (bytes[at] == 0x22) {
      const colon = space(bytes, skipString(bytes, at));
      const name = new Json(bytes, at, colon);
      at = space(bytes, colon + 1);
      const member = new Json(bytes, at, skip(bytes, at, 0));
      if (name.text == key) found = member;
      at = space(bytes, member.end);
      if (bytes[at] == 0x2c) at = space(bytes, at + 1);
    }
    return found;
  }

  /** The values of an array. */
  get items(): Json[] {
    const bytes = this.bytes;
    const items: Json[] = [];
    if (!this.opens(0x5b)) return items;
    let at = space(bytes, this.start + 1);
    while (bytes[at] != 0x5d) {
      const item = new Json(bytes, at, skip(bytes, at, 0));
      items.push(item);
      at = space(bytes, item.end);
      if (bytes[at] == 0x2c) at = space(bytes, at + 1);
    }
    return items;
  }

  /** A string decoded; "" for any other value. */
  get text(): string {
    if (!this.opens(0x22)) return "";
    const from = this.start + 1;
    const raw = String.UTF8.decodeUnsafe(this.bytes.dataStart + from, skipString(this.bytes, this.start) - 1 - from);
    return raw.includes("\\") ? unescape(raw) : raw;
  }

  /** A number without fraction; 0 for any other value. */
  get integer(): i64 {
    return this.exists && this.bytes[this.start] <= 0x39 && !this.opens(0x22) ? I64.parseInt(this.raw) : 0;
  }

  get isTrue(): bool {
    return this.opens(0x74);
  }

  private opens(c: u8): bool {
    return this.start < this.end && this.bytes[this.start] == c;
  }
}

/** Reads a JSON text; one that is malformed ends the function with exit code 1. */
export function parse(text: Uint8Array): Json {
  const start = space(text, 0);
  const end = skip(text, start, 0);
  if (space(text, end) < text.length) fail(end);
  return new Json(text, start, end);
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
function peek(bytes: Uint8Array, at: i32): u8 {
  return at < bytes.length ? bytes[at] : 0;
}

function expect(bytes: Uint8Array, c: u8, at: i32): i32 {
  if (peek(bytes, at) != c) fail(at);
  return at + 1;
}

function space(bytes: Uint8Array, at: i32): i32 {
  for (let c = peek(bytes, at); c == 0x20 || c == 0x0a || c == 0x0d || c == 0x09; c = peek(bytes, at)) at++;
  return at;
}

function skipString(bytes: Uint8Array, at: i32): i32 {
  at = expect(bytes, 0x22, at);
  for (let c = peek(bytes, at); c != 0x22; c = peek(bytes, at)) {
    if (c < 0x20) fail(at);
    at += c == 0x5c ? 2 : 1;
  }
  return at + 1;
}

function isScalar(c: u8): bool {
  return (c >= 0x30 && c <= 0x39) || (c >= 0x61 && c <= 0x7a) || c == 0x2b || c == 0x2d || c == 0x2e || c == 0x45;
}

/** The offset behind the value at `at`. */
function skip(bytes: Uint8Array, at: i32, depth: i32): i32 {
  if (depth > 128) fail(at);
  const open = peek(bytes, at);
  if (open == 0x22) return skipString(bytes, at);
  if (open != 0x7b && open != 0x5b) {
    if (!isScalar(open)) fail(at);
    while (isScalar(peek(bytes, at))) at++;
    return at;
  }
  const close: u8 = open + 2;
  at = space(bytes, at + 1);
  if (peek(bytes, at) == close) return at + 1;
  while (true) {
    if (open == 0x7b) at = space(bytes, expect(bytes, 0x3a, space(bytes, skipString(bytes, at))));
    at = space(bytes, skip(bytes, at, depth + 1));
    if (peek(bytes, at) == close) return at + 1;
    at = space(bytes, expect(bytes, 0x2c, at));
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
