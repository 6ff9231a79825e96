/*
 * The post office: what agent and launcher ask the local daemon (docs/reference/sandbox-protocol.md). One request per
 * connection, which is closed with its answer: a process that waits holds none, so it can be saved and continued elsewhere.
 */
#ifndef STINT_POST_H
#define STINT_POST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "line.h"

#define POST_MS 10000      /* a request that has not been answered whole by then counts as unanswered */
#define POST_RETRY_MS 200  /* an absent daemon is asked again after this */
#define POST_BODY_MAX (1024 * 1024)
#define POST_LOST (255 << 8) /* the wait status of a command that could not be run */

struct post {
    int fd;
    long long deadline;
    struct line_reader reader; /* what has come behind the answer's line is the start of its body */
};

/* Connects to the daemon named by STINT_POST; false when there is none now. */
bool post_open(struct post *post, int ms);
bool post_send(struct post *post, const void *bytes, size_t length);
/* Receives the line of the answer. */
bool post_answer(struct post *post, char line[LINE_MAX_BYTES]);
/* Receives exactly this many bytes of the answer's body. */
bool post_body(struct post *post, void *bytes, size_t length);
void post_close(struct post *post);

/* A whole request: sends a line and a body, receives the line of the answer. To be closed also when it has failed. */
bool post_ask(struct post *post, const char *request, const void *body, size_t length, char line[LINE_MAX_BYTES]);
/* A whole request whose answer says nothing but that it is settled: `ok`, or `unknown` for a command nobody knows any more. */
bool post_tell(const char *request, const void *body, size_t length);

/* How long to wait for a wake before asking anyway, for it may be lost with a daemon: milliseconds. */
int post_patience_ms(void);

#endif
