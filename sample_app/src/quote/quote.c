/* quote: asks an API for a quote, and passes on its JSON. */
#include "edge.h"

int main(void) {
    edge_text method = edge_string(edge_find(edge_request(), "method"));
    if (!edge_equal(method, "GET") && !edge_equal(method, "HEAD"))
        return edge_respond(405, "{\"content-type\":\"application/json\",\"allow\":\"GET, HEAD\"}",
                            edge_literal("{\"error\":\"method not allowed\"}"));

    edge_fetch_response quote = edge_fetch((edge_fetch_request){
        .url = edge_literal("http://127.0.0.1:8900/quote"),
        .headers = "{\"accept\":\"application/json\"}",
        .timeout_ms = 500,
    });
    if (quote.error.code) return edge_respond_error(502, quote.error);
    if (quote.status != 200 || !edge_parse(quote.body).at)
        return edge_respond_error(502, (edge_error){"bad-answer", "the API answered with no quote"});
    return edge_respond(200, EDGE_JSON, quote.body);
}
