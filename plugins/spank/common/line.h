/* Lines of the sandbox protocol (docs/reference/sandbox-protocol.md): "verb key=value ...", values percent-encoded. */
#ifndef STINT_LINE_H
#define STINT_LINE_H

#include <stdbool.h>
#include <stddef.h>

#define LINE_MAX_BYTES 4096

/* A line being received. */
struct line_reader {
    char text[LINE_MAX_BYTES];
    size_t length;
};

/*
 * Connects to the daemon; -1 with errno set when it is not there. Connecting and each sending take at most `ms`: a daemon
 * that is stopped lets its queue fill and would block both for ever.
 */
int line_connect(const char *socket_path, int ms);

/* Appends " key=value" to a line, encoding the value; false when it does not fit. */
bool line_add(char *line, size_t size, const char *key, const char *value);
bool line_add_number(char *line, size_t size, const char *key, long long value);

/* Sends a line and its newline whole. */
bool line_send(int fd, const char *line);

/*
 * Takes one complete line out of the reader into `line`, reading at most once from fd when none is there yet.
 * 1: a line; 0: not yet; -1: the connection has ended or the line is too long.
 */
int line_receive(int fd, struct line_reader *reader, char line[LINE_MAX_BYTES]);

/* Receives one line until `deadline` (clock.h), however slowly its bytes come. */
bool line_await(int fd, struct line_reader *reader, char line[LINE_MAX_BYTES], long long deadline);

/* Whether the line starts with this verb. */
bool line_is(const char *line, const char *verb);

/* The index-th value of a key, decoded into `value`; false when there is none or it does not fit. */
bool line_value(const char *line, const char *key, int index, char *value, size_t size);
long long line_number(const char *line, const char *key, long long otherwise);

#endif
