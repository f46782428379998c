// Functions in JavaScript for the world edge: export const handle = serve((request) => Response.text("hello"));
export { EdgeError, fetch, kv, queue, trace } from "./host.js";
export { log } from "./log.js";
export { Request } from "./request.js";
export { Response, serve } from "./response.js";
export { decode, encode } from "./bytes.js";
