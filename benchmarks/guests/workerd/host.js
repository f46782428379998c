// Runs job.js in a worker that is loaded for the request, or under /shared in one that is loaded once.
import wasm from "job.wasm";
import js from "job.js";

let number = 0;

export default {
  async fetch(request, env) {
    const name = new URL(request.url).pathname === "/shared" ? "shared" : `job-${number++}`;
    const worker = env.LOADER.get(name, () => ({
      compatibilityDate: "2025-09-01",
      mainModule: "job.js",
      modules: { "job.js": { js }, "job.wasm": { wasm } },
      globalOutbound: null,
    }));
    return worker.getEntrypoint().fetch(request);
  },
};
