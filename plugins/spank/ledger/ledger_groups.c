/*
 * Multicast groups. The kernel does not list a socket's groups, but says of a given one whether the socket is in it and by which
 * filter: asked for every group that /proc/net/igmp and igmp6 have on any device.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ledger.h"

#define GROUPS_MAX 1024
#define SOURCES_MAX 64 /* Twice what net.ipv4.igmp_max_msf allows by default, and what net.ipv6.mld_max_msf does. */

/* A group on a device; as many address bytes as the family has. */
static struct group {
    int domain;
    char device[IF_NAMESIZE];
    unsigned char address[16];
} groups[GROUPS_MAX];
static int group_count = -1;

static size_t address_size(int domain)
{
    return domain == AF_INET ? 4 : 16;
}

static void add_group(int domain, const char *device, const unsigned char *address)
{
    if (group_count == GROUPS_MAX)
        return;
    struct group *group = &groups[group_count++];
    group->domain = domain;
    snprintf(group->device, sizeof group->device, "%s", device);
    memcpy(group->address, address, address_size(domain));
}

/* "2	eth0      :     1      V3", then for each group "				FB0000E0     1 0:00000000		0": the address as a number of this machine. */
static void read_igmp(void)
{
    char line[256], device[IF_NAMESIZE] = "";
    unsigned group;
    FILE *file = fopen("/proc/net/igmp", "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL)
        if (line[0] != '\t')
            (void)sscanf(line, "%*d %15s", device);
        else if (sscanf(line, " %8x", &group) == 1)
            add_group(AF_INET, device, (const unsigned char *)&group);
    fclose(file);
}

/* "2    eth0            ff020000000000000000000000000001     1 0000000C 0" */
static void read_igmp6(void)
{
    char line[256], device[IF_NAMESIZE], text[33];
    unsigned char address[16];
    FILE *file = fopen("/proc/net/igmp6", "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "%*d %15s %32s", device, text) == 2 && ledger_read_hex(text, address, sizeof address) == 16)
            add_group(AF_INET6, device, address);
    fclose(file);
}

static void set_address(struct sockaddr_storage *storage, int domain, const unsigned char *address)
{
    *storage = (struct sockaddr_storage){.ss_family = (sa_family_t)domain};
    if (domain == AF_INET)
        memcpy(&((struct sockaddr_in *)storage)->sin_addr, address, 4);
    else
        memcpy(&((struct sockaddr_in6 *)storage)->sin6_addr, address, 16);
}

static const unsigned char *address_of(const struct sockaddr_storage *storage)
{
    return storage->ss_family == AF_INET ? (const unsigned char *)&((const struct sockaddr_in *)storage)->sin_addr : (const unsigned char *)&((const struct sockaddr_in6 *)storage)->sin6_addr;
}

static int level_of(int domain)
{
    return domain == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
}

static union {
    struct group_filter filter;
    char room[GROUP_FILTER_SIZE(SOURCES_MAX)];
} space;

static void record_group(int pid, int fd, int socket, const struct group *group)
{
    struct group_filter *filter = &space.filter;
    socklen_t length = sizeof space;
    memset(&space, 0, sizeof space);
    filter->gf_interface = if_nametoindex(group->device);
    set_address(&filter->gf_group, group->domain, group->address);
    filter->gf_numsrc = SOURCES_MAX;
    if (getsockopt(socket, level_of(group->domain), MCAST_MSFILTER, filter, &length) != 0)
        return;
    printf("group %d %d %d %s ", pid, fd, group->domain, group->device);
    ledger_print_hex(group->address, address_size(group->domain));
    printf(" %u", filter->gf_fmode);
    for (unsigned i = 0; i < filter->gf_numsrc && i < SOURCES_MAX; i++) {
        putchar(' ');
        ledger_print_hex(address_of(&filter->gf_slist[i]), address_size(group->domain));
    }
    putchar('\n');
}

void ledger_record_groups(int pid, int fd, int socket, int domain)
{
    if (group_count < 0) {
        group_count = 0;
        read_igmp();
        read_igmp6();
    }
    for (int i = 0; i < group_count; i++)
        if (groups[i].domain == AF_INET || domain == AF_INET6)
            record_group(pid, fd, socket, &groups[i]);
}

static bool join(int socket, int domain, const struct group_filter *filter)
{
    struct group_req request = {.gr_interface = filter->gf_interface, .gr_group = filter->gf_group};
    return setsockopt(socket, level_of(domain), MCAST_JOIN_GROUP, &request, sizeof request) == 0 || errno == EADDRINUSE;
}

/* `words`: DOMAIN DEVICE GROUP MODE SOURCE... */
void ledger_put_group(int pid, int fd, int socket, char *words)
{
    struct group_filter *filter = &space.filter;
    unsigned char address[16];
    char device[IF_NAMESIZE], group[33];
    int domain, used = 0;
    memset(&space, 0, sizeof space);
    if (sscanf(words, "%d %15s %32s %u%n", &domain, device, group, &filter->gf_fmode, &used) != 4 || ledger_read_hex(group, address, sizeof address) != (int)address_size(domain)) {
        printf("failed group %d %d %s\n", pid, fd, words);
        return;
    }
    filter->gf_interface = if_nametoindex(device);
    set_address(&filter->gf_group, domain, address);
    char *rest = NULL;
    for (char *word = strtok_r(words + used, " ", &rest); word != NULL && filter->gf_numsrc < SOURCES_MAX; word = strtok_r(NULL, " ", &rest))
        if (ledger_read_hex(word, address, sizeof address) == (int)address_size(domain))
            set_address(&filter->gf_slist[filter->gf_numsrc++], domain, address);
    bool plain = filter->gf_fmode == MCAST_EXCLUDE && filter->gf_numsrc == 0;
    if (filter->gf_interface == 0)
        errno = ENODEV;
    if (filter->gf_interface == 0 || !join(socket, domain, filter) || (!plain && setsockopt(socket, level_of(domain), MCAST_MSFILTER, filter, GROUP_FILTER_SIZE(filter->gf_numsrc)) != 0))
        printf("failed group %d %d %d %s %s %s\n", pid, fd, domain, device, group, strerror(errno));
}
