/* A price list, for functions in other languages: the interface of prices.wit, by the canonical ABI. */
#define EXPORT(name) __attribute__((export_name(name)))

typedef struct { const char *item; unsigned length, count; } line;
typedef struct { unsigned char failed; union { unsigned cents; struct { const char *item; unsigned length; } unknown; }; } result;

static const struct { const char *item; unsigned cents; } PRICES[] = {{"tea", 350}, {"coffee", 420}, {"cake", 510}};
static _Alignas(8) char heap[32 << 10];
static unsigned used;
static result answer;

EXPORT("cabi_realloc") void *cabi_realloc(void *old, unsigned old_size, unsigned align, unsigned size) {
    unsigned at = (used + align - 1) & -align;
    if (size > sizeof heap || at > sizeof heap - size) __builtin_trap();
    used = at + size;
    return heap + at;
}

static unsigned price(const line *wanted) {
    for (unsigned i = 0; i < sizeof PRICES / sizeof *PRICES; i++) {
        unsigned at = 0;
        while (at < wanted->length && PRICES[i].item[at] == wanted->item[at]) at++;
        if (at == wanted->length && !PRICES[i].item[at]) return PRICES[i].cents;
    }
    return 0;
}

EXPORT("sample:shop/prices@1.0.0#total") const result *total(const line *lines, unsigned count) {
    answer.failed = 0;
    answer.cents = 0;
    for (unsigned i = 0; i < count; i++) {
        unsigned cents = price(&lines[i]);
        if (!cents) {
            answer.failed = 1;
            answer.unknown.item = lines[i].item;
            answer.unknown.length = lines[i].length;
            break;
        }
        answer.cents += cents * lines[i].count;
    }
    return &answer;
}
