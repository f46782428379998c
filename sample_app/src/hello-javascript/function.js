export function handle(request) {
  const { method, query, body } = JSON.parse(request);
  if (method !== "GET" && method !== "POST") return answer(405, { error: "use GET or POST" });
  const words = (body ?? "").match(/\S+/g) ?? [];
  return answer(200, { greeting: `Hello, ${query.name ?? "world"}!`, from: "JavaScript", words: words.length });
}

function answer(status_code, data) {
  return JSON.stringify({ status_code, headers: { "content-type": "application/json" }, body: JSON.stringify(data) });
}
