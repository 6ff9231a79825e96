/* Lines of the sandbox protocol: reading words out of any bytes, and writing what is read again. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "line.h"

static const char *const keys[] = {"job", "cgroup", "env", "message", "", "a"};

static void read_words(const char *line, size_t size)
{
    char *value = malloc(size); /* Of that very size, so that a byte beyond it is seen. */
    must_hold(value != NULL);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        for (int index = 0; index < 3; index++) {
            if (!line_value(line, keys[i], index, value, size))
                continue;
            must_hold(strlen(value) < size);
            char again[3 * LINE_MAX_BYTES + 64] = "x", read[LINE_MAX_BYTES];
            must_hold(line_add(again, sizeof again, "k", value));
            must_hold(strchr(again, '\n') == NULL && strchr(again + 2, ' ') == NULL);
            must_hold(line_value(again, "k", 0, read, sizeof read) && strcmp(read, value) == 0);
        }
        (void)line_number(line, keys[i], -1);
        (void)line_is(line, keys[i]);
    }
    free(value);
}

/* The bytes as a peer may send them: every line that comes out ends before its buffer does. */
static void receive(const uint8_t *data, size_t size)
{
    static struct line_reader reader;
    char line[LINE_MAX_BYTES];
    int ends[2], got = 0;
    size_t lines = 0, newlines = 0;
    must_hold(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    must_hold(size == 0 || send(ends[0], data, size, 0) == (ssize_t)size);
    close(ends[0]);
    reader.length = 0;
    for (size_t i = 0; i < size; i++)
        newlines += data[i] == '\n';
    while ((got = line_receive(ends[1], &reader, line)) >= 0) {
        must_hold(reader.length <= sizeof reader.text);
        lines += got == 1;
        if (got == 1)
            must_hold(strlen(line) < sizeof line);
    }
    must_hold(lines <= newlines);
    close(ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *line = malloc(size + 1);
    must_hold(line != NULL);
    memcpy(line, data, size);
    line[size] = '\0';
    read_words(line, 1 + size % 40);
    if (size < LINE_MAX_BYTES)
        read_words(line, LINE_MAX_BYTES);
    free(line);
    receive(data, size);
    return 0;
}
