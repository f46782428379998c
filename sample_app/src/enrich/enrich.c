/* enrich: adds a quote from an API to the JSON object that is posted to it; null where its policy allows no host. */
#include "edge.h"

int main(void) {
    edge_json given = edge_parse(edge_body(edge_request()));
    if (!given.at || *given.at != '{' || !edge_get(given, "result").at)
        return edge_respond_json(400, "{\"error\":\"an object with a result is needed\"}");

    edge_fetch_response quote = edge_fetch((edge_fetch_request){
        .url = edge_literal("http://127.0.0.1:8900/quote"),
        .headers = "{\"accept\":\"application/json\"}",
        .timeout_ms = 500,
    });
    bool allowed = !quote.error.code || strcmp(quote.error.code, "host-not-allowed");
    if (allowed && quote.error.code) return edge_respond_error(502, quote.error);
    if (allowed && (quote.status != 200 || !edge_parse(quote.body).at))
        return edge_respond_error(502, (edge_error){"bad-answer", "the API answered with no quote"});

    edge_text body = {0};
    edge_add_bytes(&body, given.at, given.end - given.at - 1);
    edge_add(&body, ",\"quote\":");
    edge_add_bytes(&body, allowed ? quote.body.data : "null", allowed ? quote.body.len : 4);
    edge_add(&body, "}");
    return edge_respond(200, EDGE_JSON, body);
}
