// Compiles AssemblyScript, again and again: `node warm_asc.mjs FOLDER`, where FOLDER has node_modules.
// Each line on stdin is {folder, arguments}, each line on stdout {code, output}. It ends with its stdin.
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const asc = await import(pathToFileURL(join(process.argv[2], "node_modules/assemblyscript/dist/asc.js")));

async function build({ folder, arguments: given }) {
  const parts = [];
  const stream = { write: (text) => void parts.push(text) };
  process.chdir(folder);
  const { error } = await asc.main(given, { stdout: stream, stderr: stream });
  return { code: error ? 1 : 0, output: parts.join("") };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await build(JSON.parse(line))) + "\n");
}
