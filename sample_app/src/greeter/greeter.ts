// greeter: says hello to the path parameter `name`.
import { parse, quote } from "./json";

function readAll(): Uint8Array {
  let buffer = new ArrayBuffer(16384);
  let length = 0;
  while (true) {
    const got = process.stdin.read(buffer, length);
    if (got <= 0) return Uint8Array.wrap(buffer, 0, length);
    length += got;
    if (length == buffer.byteLength) {
      const bigger = new ArrayBuffer(2 * length);
      memory.copy(changetype<usize>(bigger), changetype<usize>(buffer), length);
      buffer = bigger;
    }
  }
}

const name = parse(readAll()).get("params").get("name").text;
const body = `{"greeting":${quote(`Hello, ${name}!`)}}`;
const response = `{"status_code":200,"headers":{"content-type":"application/json"},"body":${quote(body)}}\n`;
process.stdout.write(String.UTF8.encode(response, false, String.UTF8.ErrorMode.REPLACE));
