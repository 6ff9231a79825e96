/*
 * Attributes of threads and processes, each a number with a name. All are recorded, also what a new thread has by itself: what CRIU
 * restores has those of the daemon, which an administrator may have given others. Threads are reached as
 * /proc/TID, which has the files of a process, and of the thread what they say.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ledger.h"

#define IOPRIO_WHO_PROCESS 1
#define FILTER_DEFAULT 0x33 /* MMF_DUMP_FILTER_DEFAULT; kernels whose command line says otherwise are set to what was. */
#define SLACK_DEFAULT 50000 /* Nanoseconds: init_task of the kernel. */

struct attribute_kind {
    const char *name;
    bool (*read)(int id, unsigned long long *value);
    bool (*write)(int id, unsigned long long value); /* NULL: compared only. */
    bool of_thread;
};

/* As the system call has it (linux/sched/types.h), up to the period. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

static bool read_file(int id, const char *name, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", id, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, text, size - 1);
    close(fd);
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

static bool write_file(int id, const char *name, const char *format, unsigned long long value)
{
    char path[64], text[32];
    snprintf(path, sizeof path, "/proc/%d/%s", id, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    int length = snprintf(text, sizeof text, format, value);
    bool written = write(fd, text, (size_t)length) == length;
    close(fd);
    return written;
}

static bool read_io_priority(int id, unsigned long long *value)
{
    long priority = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, id);
    *value = (unsigned long long)priority;
    return priority >= 0;
}

static bool write_io_priority(int id, unsigned long long value)
{
    return syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, id, (int)value) == 0;
}

static bool read_slack(int id, unsigned long long *value)
{
    char text[32];
    return read_file(id, "timerslack_ns", text, sizeof text) && sscanf(text, "%llu", value) == 1;
}

static bool write_slack(int id, unsigned long long value)
{
    return write_file(id, "timerslack_ns", "%llu", value);
}

static bool has_slice(int id, struct scheduling *scheduling)
{
    *scheduling = (struct scheduling){.size = 0};
    return syscall(SYS_sched_getattr, id, scheduling, sizeof *scheduling, 0) == 0 && (scheduling->policy == 0 || scheduling->policy == 3);
}

/* Of SCHED_OTHER and SCHED_BATCH since Linux 6.12; 0 where the thread has what this one has, the node's own. */
static bool read_slice(int id, unsigned long long *value)
{
    struct scheduling its, ours;
    if (!has_slice(id, &its) || !has_slice(0, &ours))
        return false;
    *value = its.runtime == ours.runtime ? 0 : its.runtime;
    return true;
}

static bool write_slice(int id, unsigned long long value)
{
    struct scheduling scheduling;
    if (!has_slice(id, &scheduling))
        return false;
    scheduling.runtime = value;
    return syscall(SYS_sched_setattr, id, &scheduling, 0) == 0;
}

static bool read_dump_filter(int id, unsigned long long *value)
{
    char text[32];
    return read_file(id, "coredump_filter", text, sizeof text) && sscanf(text, "%llx", value) == 1;
}

static bool write_dump_filter(int id, unsigned long long value)
{
    return write_file(id, "coredump_filter", "0x%llx", value);
}

/* "/autogroup-12 nice 5": as an unsigned number, and back. */
static bool read_group_nice(int id, unsigned long long *value)
{
    char text[64];
    int nice;
    if (!read_file(id, "autogroup", text, sizeof text) || sscanf(text, "/autogroup-%*d nice %d", &nice) != 1)
        return false;
    *value = (unsigned long long)(nice + 20);
    return true;
}

static bool write_group_nice(int id, unsigned long long value)
{
    char path[64], text[16];
    snprintf(path, sizeof path, "/proc/%d/autogroup", id);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    int length = snprintf(text, sizeof text, "%d", (int)value - 20);
    bool written = write(fd, text, (size_t)length) == length;
    close(fd);
    return written;
}

static bool read_personality(int id, unsigned long long *value)
{
    char text[32];
    return read_file(id, "personality", text, sizeof text) && sscanf(text, "%llx", value) == 1;
}

/* PF_MCE_PROCESS and PF_MCE_EARLY of linux/sched.h among the flags in stat. */
static bool read_memory_failure(int id, unsigned long long *value)
{
    char text[1024];
    unsigned flags;
    const char *behind;
    if (!read_file(id, "stat", text, sizeof text) || (behind = strrchr(text, ')')) == NULL || sscanf(behind, ") %*c %*d %*d %*d %*d %*d %u", &flags) != 1)
        return false;
    *value = flags & (0x80U | 0x08000000U);
    return true;
}

/* 1 where all memory is given to KSM (PR_SET_MEMORY_MERGE). */
static bool read_merging(int id, unsigned long long *value)
{
    char text[512];
    if (!read_file(id, "ksm_stat", text, sizeof text))
        return false;
    *value = strstr(text, "ksm_merge_any: yes") != NULL;
    return true;
}

static const struct attribute_kind kinds[] = {
    {"io-priority", read_io_priority, write_io_priority, true},
    {"timer-slack", read_slack, write_slack, true},
    {"time-slice", read_slice, write_slice, true},
    {"memory-failure", read_memory_failure, NULL, true},
    {"dump-filter", read_dump_filter, write_dump_filter, false},
    {"autogroup-nice", read_group_nice, write_group_nice, false},
    {"personality", read_personality, NULL, false},
    {"memory-merging", read_merging, NULL, false},
};
#define KINDS (sizeof kinds / sizeof *kinds)

/* What a thread has that nobody changed: where this kernel has no such attribute, nothing is lost. */
static unsigned long long usual(const struct attribute_kind *kind)
{
    if (kind->read == read_slack)
        return SLACK_DEFAULT;
    if (kind->read == read_group_nice)
        return 20;
    return kind->read == read_dump_filter ? FILTER_DEFAULT : 0;
}

static void record(bool of_thread, int id)
{
    unsigned long long value;
    for (size_t i = 0; i < KINDS; i++)
        if (kinds[i].of_thread == of_thread && kinds[i].read(id, &value))
            printf("attribute %s %d %llu\n", kinds[i].name, id, value);
}

static void record_thread(int pid, int tid)
{
    (void)pid;
    record(true, tid);
}

void ledger_record_attributes(int pid)
{
    ledger_for_each_thread(pid, record_thread);
    record(false, pid);
}

void ledger_put_attribute(const char *name, int id, const char *text)
{
    unsigned long long wanted = strtoull(text, NULL, 10), is = 0;
    for (size_t i = 0; i < KINDS; i++) {
        if (strcmp(kinds[i].name, name) != 0)
            continue;
        bool there = kinds[i].read(id, &is);
        if ((there && is == wanted) || (!there && wanted == usual(&kinds[i])))
            return;
        if (kinds[i].write != NULL && kinds[i].write(id, wanted) && kinds[i].read(id, &is) && is == wanted)
            return;
    }
    printf("failed attribute %s %d %llu %llu\n", name, id, wanted, is);
}
