// Makes a component of a core module: node component.mjs JCO_FOLDER MODULE WIT TARGET
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [jco, module, wit, target] = process.argv.slice(2);
const { componentEmbed, componentNew } = await import(pathToFileURL(`${jco}/dist/api.js`));
const binary = readFileSync(module);
const embedded = await componentEmbed({ binary, witSource: readFileSync(wit, 'utf8'), world: 'job' });
writeFileSync(target, await componentNew(embedded, []));
