/* A command that runs below the launcher, and its output until the daemon has it. */
#ifndef STINT_COMMAND_H
#define STINT_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define OUTPUT_HELD_MAX (16 * 1024) /* beyond it, and what the pipe holds, the command waits */

struct stream {
    int fd; /* -1: at its end */
    unsigned long long sent; /* bytes the daemon has */
    size_t held;
    char bytes[OUTPUT_HELD_MAX];
};

struct command {
    long long id;
    pid_t pid; /* and process group; 0: this place is free */
    bool ended;
    int status;
    long long close_at; /* once ended: when to stop listening to what it has left behind */
    long long gather_until; /* output that comes before this is told together */
    struct stream streams[2]; /* standard output and error */
};

/*
 * Starts a command as the body of an order describes it: NUL-terminated strings, the line for /bin/sh, its directory, its
 * environment. False when it cannot be.
 */
bool command_start(struct command *command, long long id, char *body, size_t length);

/* Reads what there is, as far as there is room for it. */
void command_read(struct command *command);

/* waitpid has said that it ended. */
void command_ended(struct command *command, int status, long long now);

/* When command_report has something to do although no output comes; `otherwise` when that is earlier. */
long long command_next_event(const struct command *command, long long otherwise);

/* Tells the daemon what it has not got yet, and frees the place with the last of it; false when the daemon did not answer. */
bool command_report(struct command *command, long long now);

#endif
