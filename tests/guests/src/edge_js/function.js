let count = 0;
export function handle(request) {
  const r = JSON.parse(request);
  count += 1;
  globalThis.leak = (globalThis.leak || 0) + 1;
  return JSON.stringify({status_code: 200, headers: {"content-type": "text/plain"}, body: `hello ${r.path} ${count} ${globalThis.leak} é`});
}
