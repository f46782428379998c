// UTF-8 and base64: QuickJS has neither TextEncoder nor TextDecoder.

/** The bytes of a text, in UTF-8; a lone surrogate becomes U+FFFD. */
export function encode(text) {
  const bytes = [];
  for (const character of text) {
    let code = character.codePointAt(0);
    if (code >= 0xd800 && code < 0xe000) code = 0xfffd;
    if (code < 0x80) bytes.push(code);
    else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
    else if (code < 0x10000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    else bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
  }
  return Uint8Array.from(bytes);
}

/** The text of bytes in UTF-8; null if they are none. */
export function decodeStrictly(bytes) {
  let escaped = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    escaped += String.fromCharCode(...bytes.subarray(i, i + 8192)).replace(/[%\x80-\xff]/g, percent);
  }
  try {
    return decodeURIComponent(escaped);
  } catch {
    return null;
  }
}

/** The text of bytes in UTF-8; if they are none, each byte beyond ASCII becomes U+FFFD. */
export function decode(bytes) {
  return decodeStrictly(bytes) ?? latin1(bytes).replace(/[\x80-\xff]/g, "\ufffd");
}

/** One character for each byte. */
export function latin1(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return text;
}

export const toBase64 = (bytes) => btoa(latin1(bytes));
export const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

/** The bytes of a body: of a text, of bytes, of nothing. */
export const bytesOf = (body) => (body === undefined || body === null ? new Uint8Array() : typeof body === "string" ? encode(body) : body);

function percent(character) {
  return "%" + character.charCodeAt(0).toString(16).padStart(2, "0");
}
