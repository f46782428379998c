import { log as write } from "starlette-wasm:edge/host@0.1.0";

const line = (level) => (message) => write(`${level} ${String(message).replace(/\n/g, " ")}`);

/** Lines of the log, with a level that the host takes over. */
export const log = { debug: line("DEBUG"), info: line("INFO"), warn: line("WARN"), error: line("ERROR") };
