/*
 * stint-init ledger look|record|identities|put|keys: the daemon's hands on what CRIU does not restore, run by root in the namespaces of a sandbox,
 * so that processes are named as the payload names them. The payload is frozen (record), or restored and not yet running (put).
 * Lines of words; the daemon says what to do and judges the answers (daemon/core/ledger.ts).
 *
 * Input                                              Answer
 *   look:   process PID                              own-fs PID TID, own-files PID TID
 *   record: option LEVEL NAME LENGTH FLAGS           none; before the processes
 *           process PID                              thread PID TID MASK
 *                                                    socket PID FD INDEX=VALUE...
 *                                                    group PID FD DOMAIN DEVICE GROUP MODE [SOURCE...]
 *                                                    attribute NAME ID VALUE
 *                                                    unread PID FD inotify|datagrams, watch-flags PID FD
 *                                                    timer PID FD FLAGS DUE_S DUE_NS INTERVAL_S INTERVAL_NS
 *   identities: process PID                          node BND, mount ID TYPE POINT; before the processes
 *                                                    identity PID TID UIDS GIDS GROUPS INH PRM EFF BND AMB NNP SECCOMP FILTERS DUMPABLE
 *                                                    file PID SLOT DEVICE INODE UID GID MODE LINKS MOUNT PATH
 *   put:    option as above                          none
 *           affinity TID MASK                        failed affinity TID WHY
 *           attribute as in the answers              failed attribute NAME ID VALUE IS
 *           socket, group, timer as in the answers   failed VERB PID FD WHAT...
 *   keys, run as the user:                           /proc/keys as it is
 * The last answer is "done".
 */
#define _GNU_SOURCE
#include "ledger.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "roles.h"

static int pidfd_of(int pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

static int take(int pidfd, int fd)
{
    return (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
}

void ledger_print_hex(const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        printf("%02x", bytes[i]);
}

int ledger_read_hex(const char *text, unsigned char *bytes, size_t size)
{
    size_t count = 0;
    for (; isxdigit((unsigned char)text[0]) && isxdigit((unsigned char)text[1]); text += 2, count++) {
        char digits[3] = {text[0], text[1], '\0'};
        if (count == size)
            return -1;
        bytes[count] = (unsigned char)strtoul(digits, NULL, 16);
    }
    return *text == '\0' ? (int)count : -1;
}

/* Sockets that several processes hold are looked at once: a set of inodes, at most half full. */
static unsigned long *seen;
static size_t seen_size, seen_count;

static size_t place_of(const unsigned long *set, size_t size, unsigned long inode)
{
    size_t at = (inode * 0x9e3779b97f4a7c15UL) & (size - 1);
    while (set[at] != 0 && set[at] != inode)
        at = (at + 1) & (size - 1);
    return at;
}

static bool is_new(unsigned long inode)
{
    if (seen_count * 2 >= seen_size) {
        size_t size = seen_size == 0 ? 1024 : seen_size * 2;
        unsigned long *larger = calloc(size, sizeof *larger);
        if (larger == NULL)
            exit(1);
        for (size_t i = 0; i < seen_size; i++)
            if (seen[i] != 0)
                larger[place_of(larger, size, seen[i])] = seen[i];
        free(seen);
        seen = larger;
        seen_size = size;
    }
    size_t at = place_of(seen, seen_size, inode);
    if (seen[at] == inode)
        return false;
    seen[at] = inode;
    seen_count++;
    return true;
}

static void record_descriptor(int pid, int pidfd, int directory, const char *name)
{
    char link[64];
    unsigned long inode;
    ssize_t length = readlinkat(directory, name, link, sizeof link - 1);
    if (length < 0)
        return;
    link[length] = '\0';
    if (strcmp(link, "anon_inode:[timerfd]") == 0)
        ledger_record_timer(pid, atoi(name));
    if (strcmp(link, "anon_inode:inotify") == 0) {
        int watches = take(pidfd, atoi(name));
        if (watches >= 0) {
            ledger_record_inotify(pid, atoi(name), watches);
            close(watches);
        }
    }
    if (sscanf(link, "socket:[%lu]", &inode) != 1 || !is_new(inode))
        return;
    int fd = take(pidfd, atoi(name));
    if (fd < 0)
        return;
    ledger_record_socket(pid, atoi(name), fd);
    ledger_record_unread_datagrams(pid, atoi(name), fd);
    close(fd);
}

static void record_process(int pid)
{
    char path[64];
    ledger_record_threads(pid);
    ledger_record_attributes(pid);
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *descriptors = opendir(path);
    int pidfd = pidfd_of(pid);
    if (descriptors != NULL && pidfd >= 0)
        for (struct dirent *entry; (entry = readdir(descriptors)) != NULL;)
            if (isdigit((unsigned char)entry->d_name[0]))
                record_descriptor(pid, pidfd, dirfd(descriptors), entry->d_name);
    if (descriptors != NULL)
        closedir(descriptors);
    if (pidfd >= 0)
        close(pidfd);
}

/* `words`: PID FD and what the verb is about. */
static bool put_descriptor(const char *verb, char *words)
{
    int pid, number, used = 0;
    if (sscanf(words, "%d %d %n", &pid, &number, &used) < 2 || used == 0)
        return false;
    int pidfd = pidfd_of(pid);
    int fd = pidfd < 0 ? -1 : take(pidfd, number);
    if (fd < 0)
        printf("failed %s %d %d gone %s\n", verb, pid, number, strerror(errno));
    else if (strcmp(verb, "socket") == 0)
        ledger_put_options(pid, number, fd, words + used);
    else if (strcmp(verb, "group") == 0)
        ledger_put_group(pid, number, fd, words + used);
    else
        ledger_put_timer(pid, number, fd, words + used);
    if (fd >= 0)
        close(fd);
    if (pidfd >= 0)
        close(pidfd);
    return true;
}

static bool put(const char *verb, char *words)
{
    char name[32];
    int tid, used = 0;
    if (strcmp(verb, "attribute") == 0) {
        if (sscanf(words, "%31s %d %n", name, &tid, &used) != 2 || used == 0)
            return false;
        ledger_put_attribute(name, tid, words + used);
        return true;
    }
    if (strcmp(verb, "socket") == 0 || strcmp(verb, "group") == 0 || strcmp(verb, "timer") == 0)
        return put_descriptor(verb, words);
    if (strcmp(verb, "affinity") != 0 || sscanf(words, "%d %n", &tid, &used) != 1 || used == 0)
        return false;
    ledger_put_affinity(tid, words + used);
    return true;
}

static bool act(const char *mode, char *line)
{
    char *words = strchr(line, ' ');
    if (words == NULL)
        return false;
    *words++ = '\0';
    if (strcmp(mode, "look") != 0 && strcmp(line, "option") == 0)
        return ledger_add_option(words);
    if (strcmp(mode, "put") == 0)
        return put(line, words);
    int pid = atoi(words);
    if (strcmp(line, "process") != 0 || pid < 1)
        return false;
    if (strcmp(mode, "look") == 0)
        ledger_look_at_threads(pid);
    else if (strcmp(mode, "identities") == 0)
        ledger_print_identities(pid);
    else
        record_process(pid);
    return true;
}

/* What of it is shown depends on who reads. */
static bool print_keys(void)
{
    char line[512];
    FILE *keys = fopen("/proc/keys", "re");
    if (keys == NULL)
        return errno == ENOENT; /* A kernel without keys. */
    while (fgets(line, sizeof line, keys) != NULL)
        fputs(line, stdout);
    return fclose(keys) == 0;
}

int ledger_main(const char *mode)
{
    char *line = NULL;
    size_t size = 0;
    if (strcmp(mode, "keys") == 0 && !print_keys())
        return 1;
    if (strcmp(mode, "identities") == 0 && !ledger_print_mounts())
        return 1;
    static const char *const modes[] = {"keys", "look", "record", "identities", "put"};
    bool known = false;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        known = known || strcmp(mode, modes[i]) == 0;
    if (!known)
        return 2;
    for (ssize_t length; (length = getline(&line, &size, stdin)) > 0;) {
        if (line[length - 1] == '\n')
            line[length - 1] = '\0';
        if (!act(mode, line)) {
            fprintf(stderr, "stint-init ledger: %s: not understood\n", line);
            return 2;
        }
    }
    puts("done");
    return ferror(stdin) == 0 && fflush(stdout) == 0 ? 0 : 1;
}
