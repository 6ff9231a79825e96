/*
 * timerfds set to a time of day. CRIU saves the time left and sets that again, so such a timer would be late by as long as the job was
 * away. The instant is recorded; set again, one that has passed meanwhile fires at once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>

#include "ledger.h"

#define NANOSECONDS 1000000000LL

static bool is_time_of_day(int clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM;
}

/* fdinfo has the flags in octal and the time left. A periodic one that has expired unread shows none: due now. */
void ledger_record_timer(int pid, int fd)
{
    char path[64], line[128];
    int clock = -1;
    unsigned flags = 0;
    long long left_s = 0, left_ns = 0, interval_s = 0, interval_ns = 0;
    struct timespec now;
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", pid, fd);
    FILE *file = fopen(path, "re");
    if (file == NULL || clock_gettime(CLOCK_REALTIME, &now) != 0) {
        if (file != NULL)
            fclose(file);
        return;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        (void)sscanf(line, "clockid: %d", &clock);
        (void)sscanf(line, "settime flags: %o", &flags);
        (void)sscanf(line, "it_value: (%lld, %lld)", &left_s, &left_ns);
        (void)sscanf(line, "it_interval: (%lld, %lld)", &interval_s, &interval_ns);
    }
    fclose(file);
    if (!is_time_of_day(clock) || !(flags & TFD_TIMER_ABSTIME) || left_s + left_ns + interval_s + interval_ns == 0)
        return;
    long long due_ns = now.tv_nsec + left_ns;
    printf("timer %d %d %u %lld %lld %lld %lld\n", pid, fd, flags, now.tv_sec + left_s + due_ns / NANOSECONDS, due_ns % NANOSECONDS, interval_s, interval_ns);
}

void ledger_put_timer(int pid, int fd, int timer, char *words)
{
    unsigned flags;
    long long due_s, due_ns, interval_s, interval_ns;
    errno = EINVAL;
    if (sscanf(words, "%u %lld %lld %lld %lld", &flags, &due_s, &due_ns, &interval_s, &interval_ns) == 5) {
        struct itimerspec value = {.it_interval = {.tv_sec = interval_s, .tv_nsec = interval_ns}, .it_value = {.tv_sec = due_s, .tv_nsec = due_ns}};
        if (timerfd_settime(timer, (int)flags, &value, NULL) == 0)
            return;
    }
    printf("failed timer %d %d %s\n", pid, fd, strerror(errno));
}
