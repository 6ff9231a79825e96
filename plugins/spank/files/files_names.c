/* Whether the user could make a name again that is gone: the way CRIU does it for what was deleted. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"

/* Cuts the last name off; false at the root directory. */
static bool to_parent(char *path)
{
    char *end = strrchr(path, '/');
    if (end == NULL || path[1] == '\0')
        return false;
    end[end == path ? 1 : 0] = '\0';
    return true;
}

void files_names(const char *path)
{
    char directory[PATH_MAX + 64];
    struct stat found;
    bool taken = lstat(path, &found) == 0, orphan = false;
    if (strlen(path) >= sizeof directory || *path != '/') {
        errno = ENAMETOOLONG;
        answer_failed();
        return;
    }
    strcpy(directory, path);
    while (to_parent(directory)) {
        if (faccessat(AT_FDCWD, directory, W_OK | X_OK, AT_EACCESS) == 0) {
            answer(orphan ? "orphan" : taken ? "taken" : "free");
            return;
        }
        if (errno != ENOENT)
            break;
        orphan = true;
    }
    answer("closed");
}
