addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

let asked = 0;

async function answer(request) {
    const url = new URL(request.url);
    asked += 1;
    if (url.pathname.endsWith("/echo")) {
        return new Response(request.body, { headers: { "content-type": "application/octet-stream" } });
    }
    const given = { asked, method: request.method, path: url.pathname, agent: request.headers.get("x-agent") };
    return new Response(JSON.stringify(given), { status: 201, headers: { "content-type": "application/json" } });
}
