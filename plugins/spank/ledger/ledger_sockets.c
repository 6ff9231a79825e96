/*
 * Options of sockets: what differs from a fresh socket of the same kind is recorded; what differs from the record is set. Flags of
 * an option: i, n: a device's index (host's, network's byte order), which has another number elsewhere and travels as @NAME;
 * d: not of streams, which have it without a use; u: only while the socket is not connected; l: only while it listens; c: compared and never set.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ledger.h"

#define OPTIONS_MAX 160
#define VALUE_MAX 64
#define KINDS_MAX 32
#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

struct value {
    socklen_t length; /* 0: the socket has no such option. */
    unsigned char bytes[VALUE_MAX];
};

static struct option {
    int level, name;
    socklen_t length;
    char flags[8];
} options[OPTIONS_MAX];
static int option_count;

/* Sockets of one kind, and what a fresh one says. */
static struct kind {
    int domain, type, protocol;
    bool has_fresh;
    struct value fresh[OPTIONS_MAX];
} kinds[KINDS_MAX];
static int kind_count;

bool ledger_add_option(char *words)
{
    struct option *option = &options[option_count];
    if (option_count == OPTIONS_MAX || sscanf(words, "%d %d %u %7s", &option->level, &option->name, &option->length, option->flags) != 4 || option->length > VALUE_MAX)
        return false;
    option_count++;
    return true;
}

static int number_of(int socket, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(socket, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
}

/* Options of IPv4 are those of IPv6 sockets, too: they may speak with both. */
static bool applies(const struct option *option, const struct kind *kind)
{
    bool internet = kind->domain == AF_INET || kind->domain == AF_INET6;
    switch (option->level) {
    case SOL_SOCKET: return true;
    case IPPROTO_IP: return internet;
    case IPPROTO_IPV6: return kind->domain == AF_INET6;
    case IPPROTO_TCP:
    case IPPROTO_UDP: return internet && kind->protocol == option->level;
    case SOL_NETLINK: return kind->domain == AF_NETLINK;
    default: return false;
    }
}

static struct value read_value(int socket, const struct option *option)
{
    struct value value = {.length = option->length};
    if (getsockopt(socket, option->level, option->name, value.bytes, &value.length) != 0 || value.length > VALUE_MAX)
        value.length = 0;
    return value;
}

static bool same(const struct value *a, const struct value *b)
{
    return a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0;
}

static struct kind *kind_of(int domain, int type, int protocol)
{
    for (int i = 0; i < kind_count; i++)
        if (kinds[i].domain == domain && kinds[i].type == type && kinds[i].protocol == protocol)
            return &kinds[i];
    if (kind_count == KINDS_MAX)
        return NULL;
    struct kind *kind = &kinds[kind_count++];
    *kind = (struct kind){.domain = domain, .type = type, .protocol = protocol};
    int fresh = socket(domain, type | SOCK_CLOEXEC, protocol);
    if (fresh < 0)
        return kind;
    kind->has_fresh = true;
    for (int i = 0; i < option_count; i++)
        if (applies(&options[i], kind))
            kind->fresh[i] = read_value(fresh, &options[i]);
    close(fresh);
    return kind;
}

static bool is_connected(int socket)
{
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    return getpeername(socket, (struct sockaddr *)&peer, &length) == 0;
}

static bool has_flag(const struct option *option, char flag)
{
    return strchr(option->flags, flag) != NULL;
}

static void print_value(int index, const struct value *value)
{
    const struct option *option = &options[index];
    char device[IF_NAMESIZE];
    unsigned number = 0;
    printf(" %d=", index);
    if (!has_flag(option, 'i') && !has_flag(option, 'n')) {
        ledger_print_hex(value->bytes, value->length);
        return;
    }
    memcpy(&number, value->bytes, sizeof number);
    if (if_indextoname(has_flag(option, 'n') ? ntohl(number) : number, device) != NULL)
        printf("@%s", device);
    else
        ledger_print_hex(value->bytes, value->length);
}

void ledger_record_socket(int pid, int fd, int socket)
{
    int domain = number_of(socket, SO_DOMAIN), type = number_of(socket, SO_TYPE);
    if (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX && domain != AF_NETLINK)
        return;
    const struct kind *kind = kind_of(domain, type, number_of(socket, SO_PROTOCOL));
    bool stream = type == SOCK_STREAM, connected = is_connected(socket), listens = number_of(socket, SO_ACCEPTCONN) == 1, any = false;
    for (int i = 0; kind != NULL && kind->has_fresh && i < option_count; i++) {
        if (!applies(&options[i], kind) || (connected && has_flag(&options[i], 'u')) || (stream && has_flag(&options[i], 'd')) || (!listens && has_flag(&options[i], 'l')))
            continue;
        struct value value = read_value(socket, &options[i]);
        if (same(&value, &kind->fresh[i]))
            continue;
        if (!any)
            printf("socket %d %d", pid, fd);
        any = true;
        print_value(i, &value);
    }
    if (any)
        putchar('\n');
    if ((domain == AF_INET || domain == AF_INET6) && type != SOCK_STREAM)
        ledger_record_groups(pid, fd, socket, domain);
}

static bool parse_value(const struct option *option, const char *text, struct value *value)
{
    if (*text != '@') {
        int length = ledger_read_hex(text, value->bytes, sizeof value->bytes);
        value->length = (socklen_t)length;
        return length >= 0;
    }
    unsigned number = if_nametoindex(text + 1);
    number = has_flag(option, 'n') ? htonl(number) : number;
    memcpy(value->bytes, &number, sizeof number);
    value->length = sizeof number;
    return number != 0;
}

/* "failed socket PID FD INDEX WANTED IS WHY" */
static void put_option(int pid, int fd, int socket, int index, const char *text)
{
    struct value wanted = {.length = 0}, is = read_value(socket, &options[index]);
    const char *why = "differs";
    if (!parse_value(&options[index], text, &wanted))
        why = "no-such-device";
    else if (same(&wanted, &is))
        return;
    else if (!has_flag(&options[index], 'c') && setsockopt(socket, options[index].level, options[index].name, wanted.bytes, wanted.length) != 0)
        why = strerror(errno);
    is = read_value(socket, &options[index]);
    if (wanted.length > 0 && same(&wanted, &is))
        return;
    printf("failed socket %d %d %d %s ", pid, fd, index, text);
    ledger_print_hex(is.bytes, is.length);
    printf(" %s\n", why);
}

void ledger_put_options(int pid, int fd, int socket, char *values)
{
    char *rest = NULL;
    for (char *word = strtok_r(values, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(word, '=');
        int index = atoi(word);
        if (equals != NULL && index >= 0 && index < option_count)
            put_option(pid, fd, socket, index, equals + 1);
    }
}
