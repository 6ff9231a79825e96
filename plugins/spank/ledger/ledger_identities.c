/*
 * Who each thread is (user, groups, capabilities, protections) and what each process holds of files (descriptors, mappings,
 * directories, executable: device, inode, owner, mode), all by the kernel's word. Nothing is opened, and no file system is asked:
 * one that the user serves (FUSE) could let this wait for ever.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <sys/stat.h> /* Of musl it has a struct statx of its own, without the newer fields. */
#endif

#include "ledger.h"

#ifndef STATX_MNT_ID /* Linux 5.8. */
#define STATX_MNT_ID 0x1000
#endif

/* One word, whatever is in it. */
static void print_word(const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte <= 0x20 || byte == '%' || byte >= 0x7f)
            printf("%%%02x", byte);
        else
            putchar_unlocked(byte);
    }
}

static bool statx_at(int directory, const char *name, int flags, struct statx *answer)
{
    unsigned wanted = STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_UID | STATX_GID | STATX_INO | STATX_MNT_ID;
    return syscall(SYS_statx, directory, name, flags | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, wanted, answer) == 0;
}

/* `slot`: a descriptor's number, START-END of a mapping, cwd, root or exe. */
static void print_file(int pid, int directory, const char *name, const char *prefix)
{
    char path[PATH_MAX + 16];
    struct statx file;
    ssize_t length = readlinkat(directory, name, path, sizeof path - 1);
    if (!statx_at(directory, name, 0, &file))
        return;
    path[length < 0 ? 0 : length] = '\0';
    unsigned number = S_ISCHR(file.stx_mode) || S_ISBLK(file.stx_mode) ? file.stx_rdev_major << 20 | file.stx_rdev_minor : 0;
    printf("file %d %s%s %u:%u:%u %llu %u %u %o %u %llu ", pid, prefix, name, file.stx_dev_major, file.stx_dev_minor, number, (unsigned long long)file.stx_ino,
        file.stx_uid, file.stx_gid, file.stx_mode, file.stx_nlink, file.stx_mask & STATX_MNT_ID ? (unsigned long long)file.stx_mnt_id : 0);
    print_word(length <= 0 ? "?" : path);
    putchar('\n');
}

static void print_files_below(int pid, const char *folder, const char *prefix)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, folder);
    DIR *files = opendir(path);
    if (files == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(files)) != NULL;)
        if (isxdigit((unsigned char)entry->d_name[0]))
            print_file(pid, dirfd(files), entry->d_name, prefix);
    closedir(files);
}

/* Fields of status in the order in which they are printed; each but the last is in every kernel since 5.9. */
static const char *const fields[] = {"Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:", "Seccomp_filters:"};
#define FIELDS (sizeof fields / sizeof *fields)

/* The values of one line as one word, with commas between them. */
static void print_values(char *values)
{
    char *rest, *value = strtok_r(values, " \t\n", &rest);
    putchar(' ');
    if (value == NULL)
        putchar('-');
    for (const char *comma = ""; value != NULL; value = strtok_r(NULL, " \t\n", &rest), comma = ",")
        printf("%s%s", comma, value);
}

static void print_thread(int pid, int tid)
{
    char path[64], *line = NULL;
    size_t size = 0, next = 0;
    struct statx owner;
    snprintf(path, sizeof path, "/proc/%d/task/%d/status", pid, tid);
    FILE *status = fopen(path, "re");
    if (status == NULL)
        return;
    printf("identity %d %d", pid, tid);
    while (next < FIELDS && getline(&line, &size, status) > 0)
        if (strncmp(line, fields[next], strlen(fields[next])) == 0)
            print_values(line + strlen(fields[next++]));
    for (; next < FIELDS; next++)
        fputs(" -", stdout);
    /* The kernel gives what is in /proc of a process to root where it is not dumpable, else to its effective user. */
    printf(" %s\n", statx_at(fileno(status), "", AT_EMPTY_PATH, &owner) ? (owner.stx_uid == 0 ? "root" : "user") : "-");
    free(line);
    fclose(status);
}

bool ledger_print_mounts(void)
{
    static char buffer[1 << 16]; /* Ten thousand descriptors are 600 kB: in pieces of 1 kB writing them takes longer than reading. */
    (void)setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    char *line = NULL, point[PATH_MAX + 1], type[64];
    size_t size = 0;
    FILE *status = fopen("/proc/self/status", "re"), *mounts = fopen("/proc/self/mountinfo", "re");
    if (status == NULL || mounts == NULL)
        return false;
    while (getline(&line, &size, status) > 0)
        if (strncmp(line, "CapBnd:", 7) == 0) {
            fputs("node", stdout);
            print_values(line + 7);
            putchar('\n');
        }
    while (getline(&line, &size, mounts) > 0) {
        const char *behind = strstr(line, " - ");
        int id;
        if (behind == NULL || sscanf(line, "%d %*s %*s %*s %4096s", &id, point) != 2 || sscanf(behind, " - %63s", type) != 1)
            continue;
        printf("mount %d %s %s\n", id, type, point);
    }
    free(line);
    return fclose(status) == 0 && fclose(mounts) == 0;
}

void ledger_print_identities(int pid)
{
    char path[64];
    ledger_for_each_thread(pid, print_thread);
    snprintf(path, sizeof path, "/proc/%d", pid);
    int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return;
    for (const char *const *name = (const char *const[]){"cwd", "root", "exe", NULL}; *name != NULL; name++)
        print_file(pid, directory, *name, "");
    close(directory);
    print_files_below(pid, "fd", "");
    print_files_below(pid, "map_files", "map:");
}
