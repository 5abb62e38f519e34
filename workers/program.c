/*
 * program.c - find the file that a command's name means.
 *
 * Runs in: worker. A few access checks along PATH for each task, about 1 microsecond each; no cache, since a
 * cached answer would be wrong after a step that installs something earlier in PATH.
 */
#include "workers/program.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Could execve() take it? @path may be relative to @directory. 0, -ENOENT, -EACCES, -ENAMETOOLONG. */
static int look_at(const char *path, const char *directory)
{
    char joined[PATH_MAX];
    struct stat status;
    if (path[0] != '/' && directory) {
        int n = snprintf(joined, sizeof joined, "%s/%s", directory, path);
        if (n >= (int)sizeof joined)
            return -ENAMETOOLONG;
        path = joined;
    }
    if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
        return errno == EACCES ? -EACCES : -ENOENT;
    if (stat(path, &status) < 0)
        return -ENOENT;
    return S_ISREG(status.st_mode) ? 0 : -EACCES;
}

int pawl_program_find(const char *name, const char *search, const char *directory, char path_out[PATH_MAX])
{
    if (name[0] == '\0')
        return -ENOENT;
    if (strchr(name, '/')) { /* execve() gives the verdict */
        size_t n = strlen(name);
        if (n >= PATH_MAX)
            return -ENAMETOOLONG;
        memcpy(path_out, name, n + 1);
        return 0;
    }
    int verdict = -ENOENT;
    char refused[PATH_MAX];
    for (const char *entry = search ? search : PAWL_PATH_DEFAULT;; entry++) {
        size_t n = strcspn(entry, ":");
        size_t shown = n ? n : 1; /* an empty entry means the job's directory */
        int written = shown < PATH_MAX
                          ? snprintf(path_out, PATH_MAX, "%.*s/%s", (int)shown, n ? entry : ".", name)
                          : PATH_MAX;
        if (written < PATH_MAX) {
            int found = look_at(path_out, directory);
            if (found == 0)
                return 0;
            if (found == -EACCES && verdict != -EACCES) {
                verdict = -EACCES;
                memcpy(refused, path_out, (size_t)written + 1);
            }
        }
        entry += n;
        if (*entry == '\0')
            break;
    }
    if (verdict == -EACCES)
        memcpy(path_out, refused, strlen(refused) + 1);
    return verdict;
}
