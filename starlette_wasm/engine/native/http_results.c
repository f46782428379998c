/* Results for which the guest is asked for room: pieces, of which each is asked for, and written, one after the other. */

#include "wasi_http.h"

bool add_piece(struct http *h, struct span piece) {
  if (h->pieces == HTTP_PIECES)
    return false;
  h->piece[h->pieces++] = piece;
  return true;
}

/* Take the room that the guest has given for a piece. False if it is not there. */
bool place_piece(struct component *c, uint32_t alignment) {
  struct http *h = c->http;
  struct span piece = h->piece[h->placed];
  uint32_t at = given(c, RESULT);
  uint8_t *to = bytes_of(c, at, piece.len);
  if (!to || at % alignment)
    return false;
  if (piece.at && piece.len)
    memcpy(to, piece.at, piece.len);
  h->place[h->placed++] = at;
  return true;
}

/* The places and sizes of all pieces but the first, into that, which is the list of them. */
static bool put_list(struct component *c) {
  const struct http *h = c->http;
  uint8_t *list = bytes_of(c, h->place[0], h->piece[0].len);
  if (!list)
    return false;
  for (uint32_t i = 1; i < h->pieces; i++) {
    uint32_t pair[] = {h->place[i], (uint32_t)h->piece[i].len};
    memcpy(list + (size_t)(i - 1) * sizeof pair, pair, sizeof pair);
  }
  return true;
}

/* Go on with pieces that are there. ``count`` are the items of the list that they are; one that is no list, but an option,
   is 0. ``into`` is where the result is wanted. */
static bool give_pieces(struct component *c, const struct quick_call *q, uint32_t into, uint32_t count, bool list) {
  struct http *h = c->http;
  bool begun = c->pending == c->frame + 1;
  if (begun && !place_piece(c, list && !h->placed ? 4 : 1)) {
    c->pending = 0;
    return false;
  }
  if (h->placed < h->pieces)
    return ask_for_room(c, list && !h->placed ? 4 : 1, h->piece[h->placed].len);
  uint32_t found[] = {h->place[0], list ? count : (uint32_t)h->piece[0].len};
  uint8_t *to = result_at(c, q, into);
  c->pending = 0;
  if (!to || (list && !put_list(c)))
    return false;
  if (!list)
    return put_result(c, q, to, 1, found, sizeof found);
  memcpy(to, found, sizeof found);
  return answered(c);
}

void begin_pieces(struct http *h) { h->pieces = h->placed = 0; }

/* Text in an option, which is there. */
bool give_text(struct component *c, const struct quick_call *q, struct span text) {
  struct http *h = c->http;
  uint32_t into = given(c, 1);
  if (!is_begun(c)) {
    begin_pieces(h);
    if (!result_at(c, q, into) || !add_piece(h, text))
      return false;
  }
  return give_pieces(c, q, into, 0, false);
}

/* The strings of a block of layout.strings(): whole, or in two at the first '='. */
static bool add_strings(struct http *h, struct span block, bool in_two) {
  uint32_t count, offset;
  if (block.len < 8)
    return false;
  memcpy(&count, block.at, sizeof count);
  if (count > HTTP_FIELDS || !is_ascii(block))
    return false;
  const uint8_t *data = block.at + 8 + 4 * (size_t)count;
  for (uint32_t i = 0; i < count; i++) {
    memcpy(&offset, block.at + 8 + 4 * (size_t)i, sizeof offset);
    const char *at = (const char *)data + offset, *is = in_two ? strchr(at, '=') : NULL;
    size_t len = strlen(at), name = is ? (size_t)(is - at) : len;
    if (!add_piece(h, (struct span){(const uint8_t *)at, name}) ||
        (in_two && !add_piece(h, (struct span){(const uint8_t *)at + name + (is != NULL), len - name - (is != NULL)})))
      return false;
  }
  return true;
}

/* Begin a list, whose items are the pieces behind its own. */
bool begin_list(struct component *c, const struct quick_call *q, uint32_t into) {
  begin_pieces(c->http);
  return result_at(c, q, into) && add_piece(c->http, (struct span){NULL, 0});
}

/* Give the list that was begun, of items of so many strings each. */
bool give_list(struct component *c, const struct quick_call *q, uint32_t into, uint32_t strings) {
  struct http *h = c->http;
  h->piece[0].len = (size_t)(h->pieces - 1) * 8;
  return give_pieces(c, q, into, (h->pieces - 1) / strings, true);
}

bool give_strings(struct component *c, const struct quick_call *q, struct span block, bool in_two) {
  uint32_t into = given(c, 0);
  if (!is_begun(c) && !(begin_list(c, q, into) && add_strings(c->http, block, in_two)))
    return false;
  return give_list(c, q, into, in_two ? 2 : 1);
}
