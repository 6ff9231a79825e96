#define _GNU_SOURCE
#include "command_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OURS "STINT_"

bool command_body_is_sound(const char *body, size_t length)
{
    return length > 0 && body[length - 1] == '\0' && strlen(body) + 1 < length;
}

static bool is_ours(const char *entry)
{
    return strncmp(entry, OURS, strlen(OURS)) == 0;
}

static char **merge_environment(char *from, const char *end)
{
    size_t count = 1;
    for (const char *entry = from; entry < end; entry += strlen(entry) + 1)
        count++;
    for (char **entry = environ; *entry != NULL; entry++)
        count++;
    char **merged = calloc(count, sizeof *merged);
    char **next = merged;
    for (char *entry = from; merged != NULL && entry < end; entry += strlen(entry) + 1)
        if (!is_ours(entry))
            *next++ = entry;
    for (char **entry = environ; merged != NULL && *entry != NULL; entry++)
        if (is_ours(*entry))
            *next++ = *entry;
    return merged;
}

static bool set_streams(int output, int error)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return null >= 0 && dup2(null, 0) == 0 && dup2(output, 1) == 1 && dup2(error, 2) == 2;
}

/* What the launcher blocks and ignores is nothing for the command. */
static bool reset_signals(void)
{
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        (void)signal(number, SIG_DFL);
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL) == 0;
}

_Noreturn void command_exec(char *body, size_t length, int output, int error)
{
    char *directory = body + strlen(body) + 1;
    char **environment = merge_environment(directory + strlen(directory) + 1, body + length);
    if (environment != NULL && setsid() >= 0 && set_streams(output, error) && reset_signals() && (chdir(directory) == 0 || chdir("/") == 0))
        execve("/bin/sh", (char *[]){"sh", "-c", body, NULL}, environment);
    dprintf(error, "stint: the command could not be started: %s\n", strerror(errno));
    _exit(127);
}
