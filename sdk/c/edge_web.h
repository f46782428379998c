/* edge_web.h: what a web function needs beside edge.h: query, cookies, forms, multipart, redirects, problems, logging.
 *
 *     edge_json request = edge_request();
 *     edge_text item = edge_form(request, "item");
 *     if (!item.data) return edge_problem(400, "no item", "send the field item");
 *     edge_response response = edge_reply(200);
 *     edge_set_cookie(&response, "last", item, "Path=/; HttpOnly; SameSite=Lax");
 *     return edge_send(response, item);
 *
 * A text that is not there has NULL as its data.
 */
#ifndef EDGE_WEB_H
#define EDGE_WEB_H

#include "edge.h"

#define EDGE_TEXT "{\"content-type\":\"text/plain; charset=utf-8\"}"

EDGE_FN edge_text edge_path(edge_json request) { return edge_string(edge_find(request, "path")); }
EDGE_FN edge_text edge_method(edge_json request) { return edge_string(edge_find(request, "method")); }

/* A path parameter of the rule. */
EDGE_FN edge_text edge_param(edge_json request, const char *name) {
    return edge_string(edge_find(request, "params", name));
}

/* A header, by its name in lower case. */
EDGE_FN edge_text edge_header(edge_json request, const char *name) {
    return edge_string(edge_find(request, "headers", name));
}

/* The last value of a key of the query. */
EDGE_FN edge_text edge_query(edge_json request, const char *name) {
    return edge_string(edge_find(request, "query", name));
}

/* The value at an index among those of a repeated key of the query. */
EDGE_FN edge_text edge_query_at(edge_json request, const char *name, size_t index) {
    edge_json all = edge_find(request, "multi_value_query", name);
    if (!all.at) return index ? (edge_text){0} : edge_query(request, name);
    edge_json value = edge_next(all, (edge_json){0});
    while (value.at && index--) value = edge_next(all, value);
    return edge_string(value);
}

/* A text within another one, without a copy. */
EDGE_FN edge_text edge_slice(const char *begin, const char *end) {
    return (edge_text){(char *)begin, end - begin, end - begin};
}

EDGE_FN edge_text edge_trim(edge_text text) {
    const char *begin = text.data, *end = text.data + text.len;
    while (begin < end && (*begin == ' ' || *begin == '\t')) begin++;
    while (end > begin && (end[-1] == ' ' || end[-1] == '\t')) end--;
    return edge_slice(begin, end);
}

/* Where `part` begins in a text, NULL if it is not in it. */
EDGE_FN const char *edge_search(edge_text text, const char *part, size_t len) {
    for (size_t i = 0; len <= text.len && i <= text.len - len; i++)
        if (!memcmp(text.data + i, part, len)) return text.data + i;
    return NULL;
}

/* What is before a character, which goes with it from `rest`; all of it if the character is not there. */
EDGE_FN edge_text edge_cut(edge_text *rest, char c) {
    const char *end = rest->data + rest->len, *at = rest->len ? memchr(rest->data, c, rest->len) : NULL;
    edge_text before = edge_slice(rest->data, at ? at : end);
    *rest = edge_slice(at ? at + 1 : end, end);
    return before;
}

/* The value of a cookie, without the quotes that may be around it. */
EDGE_FN edge_text edge_cookie(edge_json request, const char *name) {
    edge_text rest = edge_header(request, "cookie");
    while (rest.len) {
        edge_text value = edge_cut(&rest, ';'), key = edge_trim(edge_cut(&value, '='));
        if (!edge_equal(key, name)) continue;
        value = edge_trim(value);
        bool quoted = value.len > 1 && *value.data == '"' && value.data[value.len - 1] == '"';
        return quoted ? edge_slice(value.data + 1, value.data + value.len - 1) : value;
    }
    return (edge_text){0};
}

EDGE_FN int edge_hex(char c) {
    char low = c | 32;
    return c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

/* A name or value of a form: + is a space, %XX is a byte. */
EDGE_FN edge_text edge_unquote(edge_text text) {
    edge_text out = edge_literal("");
    for (size_t i = 0; i < text.len; i++) {
        int high = text.data[i] == '%' && i + 2 < text.len ? edge_hex(text.data[i + 1]) : -1;
        int low = high >= 0 ? edge_hex(text.data[i + 2]) : -1;
        char c = low >= 0 ? high << 4 | low : text.data[i] == '+' ? ' ' : text.data[i];
        edge_add_bytes(&out, &c, 1);
        if (low >= 0) i += 2;
    }
    return out;
}

/* The last value of a field of a form in the body (application/x-www-form-urlencoded). */
EDGE_FN edge_text edge_form(edge_json request, const char *name) {
    edge_text rest = edge_body(request), found = {0};
    while (rest.len) {
        edge_text value = edge_cut(&rest, '&'), key = edge_cut(&value, '=');
        if (edge_equal(edge_unquote(key), name)) found = edge_unquote(value);
    }
    return found;
}

/* Whether a text begins with a literal, in whatever case. */
EDGE_FN bool edge_begins(edge_text text, const char *literal) {
    size_t len = strlen(literal);
    for (size_t i = 0; i < len && i < text.len; i++) {
        char c = text.data[i];
        if ((c >= 'A' && c <= 'Z' ? c | 32 : c) != literal[i]) return false;
    }
    return len <= text.len;
}

/* A parameter of a header such as `form-data; name="a"; filename="b.txt"`. */
EDGE_FN edge_text edge_header_parameter(edge_text header, const char *name) {
    edge_text rest = header;
    edge_cut(&rest, ';');
    while (rest.len) {
        const char *quote = edge_search(rest, "=\"", 2), *end = rest.data + rest.len;
        edge_text key = edge_trim(edge_slice(rest.data, memchr(rest.data, '=', rest.len) ?: end)), value;
        if (quote && quote == key.data + key.len) {
            const char *close = memchr(quote + 2, '"', end - quote - 2) ?: end;
            value = edge_slice(quote + 2, close);
            rest = edge_slice(close, end);
            edge_cut(&rest, ';');
        } else {
            value = edge_cut(&rest, ';');
            edge_cut(&value, '=');
            value = edge_trim(value);
        }
        if (edge_begins(key, name) && key.len == strlen(name)) return value;
    }
    return (edge_text){0};
}

/* A part of multipart/form-data: `filename` and `type` have no data if it has none. */
typedef struct {
    edge_text name, filename, type, body;
} edge_part;

EDGE_FN void edge_read_part_headers(edge_part *part, edge_text head) {
    while (head.len) {
        edge_text value = edge_cut(&head, '\n'), key = edge_cut(&value, ':');
        if (value.len && value.data[value.len - 1] == '\r') value.len--;
        if (edge_begins(key, "content-disposition") && key.len == 19) {
            part->name = edge_header_parameter(value, "name");
            part->filename = edge_header_parameter(value, "filename");
        } else if (edge_begins(key, "content-type") && key.len == 12) {
            part->type = edge_trim(value);
        }
    }
}

/* The part at an index of a multipart body; false behind the last, and for a body that is not multipart. */
EDGE_FN bool edge_part_at(edge_json request, size_t index, edge_part *part) {
    edge_text boundary = edge_header_parameter(edge_header(request, "content-type"), "boundary");
    edge_text rest = edge_body(request), line = edge_literal("\r\n--"), text = edge_literal("\r\n");
    if (!boundary.len) return false;
    edge_add_bytes(&line, boundary.data, boundary.len);
    edge_add_bytes(&text, rest.data, rest.len);
    const char *end = text.data + text.len, *at = edge_search(text, line.data, line.len);
    while (at && end - at >= (ptrdiff_t)line.len + 2 && memcmp(at + line.len, "--", 2)) {
        edge_text inside = edge_slice(at + line.len + 2, end);
        const char *next = edge_search(edge_slice(at + line.len, end), line.data, line.len);
        const char *blank = edge_search(inside, "\r\n\r\n", 4);
        if (!next || !blank || blank > next) return false;
        if (!index--) {
            *part = (edge_part){.body = edge_slice(blank + 4, next)};
            edge_read_part_headers(part, edge_slice(inside.data, blank));
            return true;
        }
        at = next;
    }
    return false;
}

/* An answer that gets its headers and cookies one by one. */
typedef struct {
    int status;
    edge_text headers, cookies;
} edge_response;

EDGE_FN edge_response edge_reply(int status) { return (edge_response){.status = status}; }

/* A header, each name once. */
EDGE_FN void edge_set_header(edge_response *response, const char *name, edge_text value) {
    edge_text_field(&response->headers, name, value);
}

/* A cookie; `attributes` such as "Path=/; HttpOnly" may be "". */
EDGE_FN void edge_set_cookie(edge_response *response, const char *name, edge_text value, const char *attributes) {
    edge_text cookie = edge_literal(name);
    edge_add(&cookie, "=");
    edge_add_bytes(&cookie, value.data, value.len);
    if (*attributes) edge_add(&cookie, "; ");
    edge_add(&cookie, attributes);
    edge_add(&response->cookies, response->cookies.len ? "," : "[");
    edge_add_string(&response->cookies, cookie);
}

EDGE_FN int edge_send(edge_response response, edge_text body) {
    if (response.cookies.len) {
        edge_add(&response.cookies, "]");
        edge_field(&response.headers, "set-cookie", response.cookies.data, response.cookies.len);
    }
    edge_add(&response.headers, response.headers.len ? "}" : "{}");
    return edge_respond(response.status, response.headers.data, body);
}

EDGE_FN int edge_respond_text(int status, edge_text body) { return edge_respond(status, EDGE_TEXT, body); }

/* 303 leads to a GET, 307 and 308 keep the method. */
EDGE_FN int edge_redirect(int status, edge_text location) {
    edge_response response = edge_reply(status);
    edge_set_header(&response, "location", location);
    return edge_send(response, (edge_text){0});
}

/* application/problem+json, RFC 9457. */
EDGE_FN int edge_problem(int status, const char *title, const char *detail) {
    edge_text body = {0};
    edge_text_field(&body, "title", edge_literal(title));
    edge_int_field(&body, "status", status);
    edge_text_field(&body, "detail", edge_literal(detail));
    edge_add(&body, "}");
    return edge_respond(status, "{\"content-type\":\"application/problem+json\"}", body);
}

/* A line of the log with its level, which the host takes over: DEBUG, INFO, WARN or ERROR. */
EDGE_FN void edge_log_line(const char *level, const char *message) {
    edge_text line = edge_literal(level);
    edge_add(&line, " ");
    for (const char *at = message; *at; at++) edge_add_bytes(&line, *at == '\n' ? " " : at, 1);
    edge_add(&line, "\n");
    edge_write(2, line.data, line.len);
}

EDGE_FN void edge_debug(const char *message) { edge_log_line("DEBUG", message); }
EDGE_FN void edge_info(const char *message) { edge_log_line("INFO", message); }
EDGE_FN void edge_warn(const char *message) { edge_log_line("WARN", message); }
EDGE_FN void edge_fail(const char *message) { edge_log_line("ERROR", message); }

#endif
