/* edge-cache: what was stored under a key, else /data/<key> from a directory that the policy grants.
 *
 * PUT stores the body in the key/value namespace `cache` for a minute, DELETE takes it out again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "edge.h"

#define NAMESPACE "cache"
#define TTL_MS 60000

static bool is_key(edge_text key) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    return key.len && key.len < 256 && key.data[0] != '.' && strspn(key.data, allowed) == key.len;
}

static const char *headers_for(edge_text key) {
    if (key.len > 5 && !strcmp(key.data + key.len - 5, ".json")) return EDGE_JSON;
    return "{\"content-type\":\"text/plain; charset=utf-8\"}";
}

static int get(edge_text key) {
    edge_value stored = edge_kv_get(NAMESPACE, key);
    if (stored.error.code) edge_log(stored.error); /* the files are there all the same */
    if (stored.found) return edge_respond(200, headers_for(key), stored.value);

    edge_text path = edge_literal("/data/");
    edge_add_bytes(&path, key.data, key.len);
    struct stat stat;
    int fd = open(path.data, O_RDONLY);
    if (fd < 0 && errno != ENOENT) perror(path.data);
    if (fd < 0 || fstat(fd, &stat) || !S_ISREG(stat.st_mode)) return edge_respond_json(404, "{\"error\":\"not found\"}");
    return edge_respond(200, headers_for(key), edge_read(fd));
}

static int done(edge_change change) {
    return change.error.code ? edge_respond_error(502, change.error) : edge_respond(204, "{}", (edge_text){0});
}

int main(void) {
    edge_json request = edge_request();
    edge_text method = edge_string(edge_find(request, "method"));
    edge_text key = edge_string(edge_find(request, "params", "key"));
    if (!is_key(key)) return edge_respond_json(400, "{\"error\":\"bad key\"}");
    if (edge_equal(method, "GET") || edge_equal(method, "HEAD")) return get(key);
    if (edge_equal(method, "PUT")) return done(edge_kv_set(NAMESPACE, key, edge_body(request), TTL_MS));
    if (edge_equal(method, "DELETE")) return done(edge_kv_delete(NAMESPACE, key));
    return edge_respond(405, "{\"content-type\":\"application/json\",\"allow\":\"GET, HEAD, PUT, DELETE\"}",
                        edge_literal("{\"error\":\"method not allowed\"}"));
}
