/* Base64, RFC 4648: with AVX2 where the CPU has it, 32 characters at a time, else four. */

#include "text.h"

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static uint8_t digits[256]; /* 0xff for what is none */


#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))

static bool has_avx2(void) { return __builtin_cpu_supports("avx2"); }

AVX2 static __m256i masked(__m256i mask, char value) { return _mm256_and_si256(mask, _mm256_set1_epi8(value)); }

/* Six bits in each byte, as characters. */
AVX2 static __m256i to_letters(__m256i six) {
  __m256i shift = _mm256_set1_epi8('A');
  shift = _mm256_add_epi8(shift, masked(_mm256_cmpgt_epi8(six, _mm256_set1_epi8(25)), 'a' - 26 - 'A'));
  shift = _mm256_add_epi8(shift, masked(_mm256_cmpgt_epi8(six, _mm256_set1_epi8(51)), '0' - 52 - ('a' - 26)));
  shift = _mm256_add_epi8(shift, masked(_mm256_cmpgt_epi8(six, _mm256_set1_epi8(61)), '+' - 62 - ('0' - 52)));
  shift = _mm256_add_epi8(shift, masked(_mm256_cmpgt_epi8(six, _mm256_set1_epi8(62)), '/' - 63 - ('+' - 62)));
  return _mm256_add_epi8(six, shift);
}

/* As many bytes as go in steps of 24; returns how many that are. Reads four bytes more than it takes. */
AVX2 static size_t encode_wide(uint8_t *to, const uint8_t *from, size_t len) {
  /* Of three bytes a, b, c in each half: b a c b, so that a word has the bits of two characters. */
  const __m256i spread = _mm256_broadcastsi128_si256(_mm_setr_epi8(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10));
  const __m256i right = _mm256_set1_epi32(1 << 26 | 1 << 6), left = _mm256_set1_epi32(1 << 24 | 1 << 4);
  size_t at = 0;
  for (; len - at >= 28; at += 24, to += 32) {
    __m128i low = _mm_loadu_si128((const __m128i *)(from + at));
    __m128i high = _mm_loadu_si128((const __m128i *)(from + at + 12));
    __m256i words = _mm256_shuffle_epi8(_mm256_set_m128i(high, low), spread);
    /* The first character of a word is 10 or 6 bits up, the second one belongs 4 or 8 bits up. */
    __m256i first = _mm256_and_si256(_mm256_mulhi_epu16(words, right), _mm256_set1_epi16(0x003f));
    __m256i second = _mm256_and_si256(_mm256_mullo_epi16(words, left), _mm256_set1_epi16(0x3f00));
    _mm256_storeu_si256((__m256i *)to, to_letters(_mm256_or_si256(first, second)));
  }
  return at;
}

/* The same 16 bytes in both halves. */
AVX2 static __m256i twice(const uint8_t *row) { return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)row)); }

/* What tells digits from other bytes, by the halves of a byte: a byte is one if no bit is set in the rows of both. Each bit
   is for some upper halves: 1 for those without digits, 2 for 2, 4 for 3, 8 for 4 and 6, 16 for 5 and 7. ``step`` is what is
   added to a digit, by its upper half; that of a slash is one row before that of a plus. */
static uint8_t upper_rows[16], lower_rows[16], step_rows[16];

static void make_rows(void) {
  static const uint8_t bits[16] = {1, 1, 2, 4, 8, 16, 8, 16, 1, 1, 1, 1, 1, 1, 1, 1};
  memcpy(upper_rows, bits, sizeof bits);
  memset(lower_rows, 1, sizeof lower_rows);
  for (int c = 0x20; c < 0x80; c++)
    if (digits[c] == 0xff)
      lower_rows[c & 15] |= bits[c >> 4];
  for (int i = 0; i < 64; i++)
    step_rows[(letters[i] >> 4) - (letters[i] == '/')] = (uint8_t)(i - letters[i]);
}

/* As many characters as go in steps of 32, up to one that is none; returns how many that are. Writes eight bytes more
   than it says. */
AVX2 static size_t decode_wide(uint8_t *to, const uint8_t *from, size_t len) {
  const __m256i pack = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1));
  const __m256i join = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 7, 7), half = _mm256_set1_epi8(15);
  const __m256i uppers = twice(upper_rows), lowers = twice(lower_rows), steps = twice(step_rows);
  size_t at = 0;
  for (; len - at >= 48; at += 32, to += 24) {
    __m256i text = _mm256_loadu_si256((const __m256i *)(from + at));
    __m256i upper = _mm256_and_si256(_mm256_srli_epi16(text, 4), half), lower = _mm256_and_si256(text, half);
    if (!_mm256_testz_si256(_mm256_shuffle_epi8(uppers, upper), _mm256_shuffle_epi8(lowers, lower)))
      break;
    __m256i slash = _mm256_cmpeq_epi8(text, _mm256_set1_epi8('/')); /* -1 */
    __m256i six = _mm256_add_epi8(text, _mm256_shuffle_epi8(steps, _mm256_add_epi8(upper, slash)));
    __m256i twelve = _mm256_maddubs_epi16(six, _mm256_set1_epi16(1 << 8 | 1 << 6));
    __m256i bits = _mm256_madd_epi16(twelve, _mm256_set1_epi32(1 << 16 | 1 << 12));
    _mm256_storeu_si256((__m256i *)to, _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(bits, pack), join));
  }
  return at;
}
#else
static bool has_avx2(void) { return false; }
static void make_rows(void) {}
static size_t encode_wide(uint8_t *to, const uint8_t *from, size_t len) { return (void)to, (void)from, len - len; }
static size_t decode_wide(uint8_t *to, const uint8_t *from, size_t len) { return (void)to, (void)from, len - len; }
#endif

void make_digits(void) {
  memset(digits, 0xff, sizeof digits);
  for (uint8_t i = 0; i < 64; i++)
    digits[(uint8_t)letters[i]] = i;
  make_rows();
}

bool put_base64(struct text *t, struct span data) {
  if (!room(t, (data.len + 2) / 3 * 4))
    return false;
  size_t i = has_avx2() ? encode_wide(t->at + t->len, data.at, data.len) : 0;
  uint8_t *to = t->at + t->len + i / 3 * 4;
  for (; i + 2 < data.len; i += 3, to += 4) {
    uint32_t bits = (uint32_t)data.at[i] << 16 | (uint32_t)data.at[i + 1] << 8 | data.at[i + 2];
    to[0] = (uint8_t)letters[bits >> 18];
    to[1] = (uint8_t)letters[bits >> 12 & 63];
    to[2] = (uint8_t)letters[bits >> 6 & 63];
    to[3] = (uint8_t)letters[bits & 63];
  }
  if (i < data.len) {
    bool two = i + 2 == data.len;
    uint32_t bits = (uint32_t)data.at[i] << 16 | (two ? (uint32_t)data.at[i + 1] << 8 : 0);
    *to++ = (uint8_t)letters[bits >> 18];
    *to++ = (uint8_t)letters[bits >> 12 & 63];
    *to++ = two ? (uint8_t)letters[bits >> 6 & 63] : '=';
    *to++ = '=';
  }
  t->len = (size_t)(to - t->at);
  return true;
}

/* The bytes that base64 stands for, into room for three quarters of it; how many, or -1 for what is odd, or none. */
ssize_t unbase64(uint8_t *to, struct span text) {
  uint8_t *begin = to;
  if (text.len % 4)
    return -1;
  size_t i = has_avx2() ? decode_wide(to, text.at, text.len) : 0;
  to += i / 4 * 3;
  for (; i < text.len; i += 4) {
    const uint8_t *from = text.at + i;
    bool last = i + 4 == text.len;
    int pad = last && from[3] == '=' ? 1 + (from[2] == '=') : 0;
    uint32_t a = digits[from[0]], b = digits[from[1]], c = pad > 1 ? 0 : digits[from[2]], d = pad ? 0 : digits[from[3]];
    if ((a | b | c | d) > 63 || (pad == 1 && c & 3) || (pad == 2 && b & 15))
      return -1;
    uint32_t bits = a << 18 | b << 12 | c << 6 | d;
    *to++ = (uint8_t)(bits >> 16);
    if (pad < 2)
      *to++ = (uint8_t)(bits >> 8);
    if (!pad)
      *to++ = (uint8_t)bits;
  }
  return to - begin;
}
