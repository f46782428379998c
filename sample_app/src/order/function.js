import { total } from "sample:shop/prices@1.0.0";

// Adds an order up: the prices are those of a function in C.
export function handle(request) {
  const { method, body } = JSON.parse(request);
  if (method !== "POST") return answer(405, { error: "POST a list of {item, count}" });
  try {
    return answer(200, { cents: total(JSON.parse(body)) });
  } catch (error) {
    return answer(422, { error: `not sold: ${error.payload ?? error}` });
  }
}

function answer(status_code, data) {
  return JSON.stringify({ status_code, headers: { "content-type": "application/json" }, body: JSON.stringify(data) });
}
