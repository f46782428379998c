/* File system calls by JSON: {"op", "path", "to", "data"}. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "edge.h"

static edge_text data; /* a JSON value, if the operation gives one */

static bool read_file(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0) return false;
    errno = 0;
    edge_text content = edge_read(fd);
    if (errno) return false;
    edge_add_string(&data, content);
    return !close(fd);
}

static bool write_file(const char *path, int flags, edge_text content) {
    int fd = open(path, O_WRONLY | O_CREAT | flags, 0644);
    return fd >= 0 && edge_write(fd, content.data, content.len) && !close(fd);
}

static bool list(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return false;
    errno = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        edge_add(&data, data.len ? "," : "[");
        edge_add_string(&data, edge_literal(entry->d_name));
    }
    if (errno) return false;
    edge_add(&data, data.len ? "]" : "[]");
    return !closedir(dir);
}

static bool describe(const char *path) {
    struct stat found;
    if (lstat(path, &found)) return false;
    edge_add(&data, "{\"type\":\"");
    edge_add(&data, S_ISREG(found.st_mode) ? "file" : S_ISDIR(found.st_mode) ? "dir" : S_ISLNK(found.st_mode) ? "link" : "other");
    edge_add(&data, "\",\"size\":");
    edge_add_int(&data, found.st_size);
    edge_add(&data, ",\"nlink\":");
    edge_add_int(&data, found.st_nlink);
    edge_add(&data, ",\"mtime\":");
    edge_add_int(&data, found.st_mtime);
    edge_add(&data, "}");
    return true;
}

static bool read_link(const char *path) {
    char target[1024];
    ssize_t len = readlink(path, target, sizeof target);
    if (len < 0) return false;
    edge_add_string(&data, (edge_text){target, len, len});
    return true;
}

static bool run(edge_text op, const char *path, const char *to, edge_text content) {
    if (edge_equal(op, "read")) return read_file(path);
    if (edge_equal(op, "write")) return write_file(path, O_TRUNC, content);
    if (edge_equal(op, "append")) return write_file(path, O_APPEND, content);
    if (edge_equal(op, "list")) return list(path);
    if (edge_equal(op, "stat")) return describe(path);
    if (edge_equal(op, "mkdir")) return !mkdir(path, 0755);
    if (edge_equal(op, "rmdir")) return !rmdir(path);
    if (edge_equal(op, "unlink")) return !unlink(path);
    if (edge_equal(op, "rename")) return !rename(path, to);
    if (edge_equal(op, "symlink")) return !symlink(to, path);
    if (edge_equal(op, "link")) return !link(path, to);
    if (edge_equal(op, "truncate")) return !truncate(path, content.data ? atol(content.data) : 0);
    if (edge_equal(op, "readlink")) return read_link(path);
    errno = ENOSYS;
    return false;
}

int main(void) {
    edge_json command = edge_parse(edge_string(edge_find(edge_request(), "body")));
    edge_text op = edge_string(edge_find(command, "op"));
    edge_text path = edge_string(edge_find(command, "path"));
    edge_text to = edge_string(edge_find(command, "to"));
    bool ok = run(op, path.data ? path.data : "", to.data ? to.data : "", edge_string(edge_find(command, "data")));

    int code = ok ? 0 : errno;
    edge_text body = edge_literal(ok ? "{\"ok\":true,\"errno\":" : "{\"ok\":false,\"errno\":");
    edge_add_int(&body, code);
    edge_add(&body, ",\"strerror\":");
    edge_add_string(&body, edge_literal(ok ? "" : strerror(code)));
    edge_add(&body, ",\"data\":");
    edge_add(&body, ok && data.len ? data.data : "\"\"");
    edge_add(&body, "}");
    return edge_respond(200, EDGE_JSON, body);
}
