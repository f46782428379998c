using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .host)],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
const host :Workerd.Worker = (
  compatibilityDate = "2025-09-01",
  compatibilityFlags = ["experimental"],
  modules = [
    (name = "host.js", esModule = embed "host.js"),
    (name = "job.js", text = embed "job.js"),
    (name = "job.wasm", data = embed "job.wasm"),
  ],
  bindings = [(name = "LOADER", workerLoader = ())],
);
