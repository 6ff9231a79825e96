#define _GNU_SOURCE
#include "line.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"

int line_connect(const char *socket_path, int ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    if (strlen(socket_path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

bool line_add(char *line, size_t size, const char *key, const char *value)
{
    size_t at = strlen(line);
    int head = snprintf(line + at, size - at, " %s=", key);
    if (head < 0 || (size_t)head >= size - at)
        return false;
    at += (size_t)head;
    for (; *value != '\0'; value++) {
        unsigned char byte = (unsigned char)*value;
        bool plain = byte > 0x20 && byte != '%' && byte != 0x7f;
        if (at + 4 >= size)
            return false;
        if (plain)
            line[at++] = (char)byte;
        else
            at += (size_t)snprintf(line + at, 4, "%%%02x", byte);
    }
    line[at] = '\0';
    return true;
}

bool line_add_number(char *line, size_t size, const char *key, long long value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", value);
    return line_add(line, size, key, text);
}

bool line_send(int fd, const char *line)
{
    char whole[LINE_MAX_BYTES];
    int length = snprintf(whole, sizeof whole, "%s\n", line);
    if (length < 0 || (size_t)length >= sizeof whole)
        return false;
    for (int sent = 0; sent < length;) {
        ssize_t n = send(fd, whole + sent, (size_t)(length - sent), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        sent += (int)n;
    }
    return true;
}

static bool take_line(struct line_reader *reader, char *line)
{
    char *end = memchr(reader->text, '\n', reader->length);
    if (end == NULL)
        return false;
    size_t length = (size_t)(end - reader->text);
    memcpy(line, reader->text, length);
    line[length] = '\0';
    reader->length -= length + 1;
    memmove(reader->text, end + 1, reader->length);
    return true;
}

int line_receive(int fd, struct line_reader *reader, char line[LINE_MAX_BYTES])
{
    if (take_line(reader, line))
        return 1;
    if (reader->length == sizeof reader->text)
        return -1;
    char *end = reader->text + reader->length;
    /* No byte beyond the line is taken: the plugin's successor, the guard, reads the next ones. */
    ssize_t n = recv(fd, end, sizeof reader->text - reader->length, MSG_PEEK);
    const char *newline = n > 0 ? memchr(end, '\n', (size_t)n) : NULL;
    if (n > 0)
        n = recv(fd, end, newline != NULL ? (size_t)(newline - end) + 1 : (size_t)n, 0);
    if (n < 0 && errno == EINTR)
        return 0;
    if (n <= 0)
        return -1;
    reader->length += (size_t)n;
    return take_line(reader, line) ? 1 : 0;
}

bool line_await(int fd, struct line_reader *reader, char line[LINE_MAX_BYTES], long long deadline)
{
    struct pollfd source = {.fd = fd, .events = POLLIN};
    for (;;) {
        if (take_line(reader, line))
            return true;
        long long left = deadline - now_ms();
        if (left <= 0)
            return false;
        if (poll(&source, 1, (int)left) <= 0)
            continue;
        int got = line_receive(fd, reader, line);
        if (got != 0)
            return got > 0;
    }
}

bool line_is(const char *line, const char *verb)
{
    size_t length = strlen(verb);
    return strncmp(line, verb, length) == 0 && (line[length] == '\0' || line[length] == ' ');
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool decode(const char *from, char *value, size_t size)
{
    size_t at = 0;
    for (; *from != '\0' && *from != ' '; from++) {
        if (at + 1 >= size)
            return false;
        if (*from == '%' && hex_digit(from[1]) >= 0 && hex_digit(from[2]) >= 0) {
            value[at++] = (char)(hex_digit(from[1]) * 16 + hex_digit(from[2]));
            from += 2;
        } else {
            value[at++] = *from;
        }
    }
    value[at] = '\0';
    return true;
}

bool line_value(const char *line, const char *key, int index, char *value, size_t size)
{
    size_t length = strlen(key);
    for (const char *word = strchr(line, ' '); word != NULL; word = strchr(word, ' ')) {
        word++;
        if (strncmp(word, key, length) == 0 && word[length] == '=' && index-- == 0)
            return decode(word + length + 1, value, size);
    }
    return false;
}

long long line_number(const char *line, const char *key, long long otherwise)
{
    char text[24];
    char *end;
    if (!line_value(line, key, 0, text, sizeof text))
        return otherwise;
    long long value = strtoll(text, &end, 10);
    return *text != '\0' && *end == '\0' ? value : otherwise;
}
