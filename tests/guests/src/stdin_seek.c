/* What the standard streams are, and stdin in pieces of 7 bytes, two to a call. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "edge.h"

static edge_text body;

static void report(const char *name, int64_t value) {
    edge_add(&body, body.len ? ",\"" : "{\"");
    edge_add(&body, name);
    edge_add(&body, "\":");
    edge_add_int(&body, value);
}

int main(void) {
    report("lseek", lseek(0, 0, SEEK_CUR));
    report("lseek_errno", errno);
    errno = 0;
    report("ftell", ftell(stdin));
    report("ftell_errno", errno);

    struct stat stat;
    report("fstat0", fstat(0, &stat) ? -errno : stat.st_mode & S_IFMT);
    report("fstat1", fstat(1, &stat) ? -errno : stat.st_mode & S_IFMT);
    report("fstat2", fstat(2, &stat) ? -errno : stat.st_mode & S_IFMT);
    report("isatty0", isatty(0));

    edge_text input = {0};
    char first[3], second[4];
    struct iovec pieces[] = {{first, sizeof first}, {second, sizeof second}};
    int calls = 0;
    ssize_t got;
    while ((got = readv(0, pieces, 2)) > 0) {
        size_t head = got < sizeof first ? got : sizeof first;
        edge_add_bytes(&input, first, head);
        edge_add_bytes(&input, second, got - head);
        calls++;
    }
    report("calls", calls);
    report("bytes", input.len);
    report("end", got);
    report("after_end", read(0, first, sizeof first));
    report("after_end_again", readv(0, pieces, 2));
    report("empty_read", read(0, first, 0));
    report("write_to_stdin", write(0, "x", 1) < 0 ? -errno : 1);
    report("read_of_stdout", read(1, first, 1) < 0 ? -errno : 1);
    edge_add(&body, ",\"input\":");
    edge_add_string(&body, input);
    edge_add(&body, "}");
    return edge_respond(200, EDGE_JSON, body);
}
