/* Takes paths from stdin, one a line, and tries all there is to try on each; answers with whatever it could read.
 *
 * A line "!race N" opens swap/secret.txt N times instead.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "edge.h"

static edge_text out;
static char buffer[4096];
static int tried, opened;

static void show(const char *what, const char *path, const char *data, size_t len) {
    edge_add(&out, what);
    edge_add(&out, " ");
    edge_add(&out, path);
    edge_add(&out, ": ");
    edge_add_bytes(&out, data, len);
    edge_add(&out, "\n");
}

static void attempt_read(const char *path) {
    tried++;
    int fd = open(path, O_RDONLY);
    if (fd < 0) return;
    opened++;
    ssize_t len = read(fd, buffer, 256);
    if (len > 0) show("read", path, buffer, len);
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir));) show("list", path, entry->d_name, strlen(entry->d_name));
    closedir(dir);
}

static void attempt_write(const char *path) {
    tried++;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0) {
        opened++;
        write(fd, "pwned", 5);
        close(fd);
    }
    mkdir(path, 0755);
    rename("/data/a.txt", path);
    link("/data/sub/b.txt", path);
    symlink("/etc/passwd", path);
    truncate(path, 0);
    unlink(path);
    rmdir(path);
}

int main(void) {
    edge_text input = edge_read(0);
    for (char *line = strtok(input.data, "\n"); line; line = strtok(NULL, "\n")) {
        if (!strncmp(line, "!race ", 6)) {
            for (int n = atoi(line + 6); n > 0; n--) attempt_read("/data/swap/secret.txt");
            continue;
        }
        char path[8192];
        snprintf(path, sizeof path, line[0] == '/' ? "%s" : "/data/%s", line);
        struct stat found;
        if (!lstat(path, &found) && found.st_size == 31337) show("stat", path, "", 0);
        ssize_t len = readlink(path, buffer, sizeof buffer);
        tried += 2;
        if (len > 0 && len < 0) show("link", path, buffer, len);
        attempt_read(path);
        attempt_write(path);
    }
    printf("content-type: text/plain\n\ntried %d, opened %d\n", tried, opened);
    fflush(stdout);
    return !edge_write(1, out.data, out.len);
}
