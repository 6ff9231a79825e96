#define _GNU_SOURCE
#include "opening.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static bool take_argument(const char *argument, const char *key, char *value, size_t size)
{
    size_t length = strlen(key);
    if (strncmp(argument, key, length) != 0 || argument[length] != '=')
        return false;
    return (size_t)snprintf(value, size, "%s", argument + length + 1) < size;
}

/* plugstack.conf: optional spank_stint.so socket=... store=... wait=SECONDS helper=... scontrol=... */
static void take_arguments(struct opening *opening, int argc, char **argv)
{
    char wait[8] = "2";
    strcpy(opening->socket_path, "/run/stint/sandbox.sock");
    strcpy(opening->helper, "/usr/libexec/stint/stint-init");
    strcpy(opening->scontrol, "/usr/bin/scontrol");
    for (int i = 0; i < argc; i++) {
        (void)take_argument(argv[i], "socket", opening->socket_path, sizeof opening->socket_path);
        (void)take_argument(argv[i], "store", opening->store, sizeof opening->store);
        (void)take_argument(argv[i], "helper", opening->helper, sizeof opening->helper);
        (void)take_argument(argv[i], "scontrol", opening->scontrol, sizeof opening->scontrol);
        (void)take_argument(argv[i], "wait", wait, sizeof wait);
    }
    opening->wait_seconds = atoi(wait) > 0 ? atoi(wait) : 2;
}

bool opening_fill(spank_t spank, struct opening *opening, const char *options, int argc, char **argv)
{
    char **job_argv = NULL;
    int job_argc = 0;
    take_arguments(opening, argc, argv);
    snprintf(opening->options, sizeof opening->options, "%s", options);
    if (spank_get_item(spank, S_JOB_ID, &opening->job) != ESPANK_SUCCESS || spank_get_item(spank, S_JOB_UID, &opening->uid) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_GID, &opening->gid) != ESPANK_SUCCESS)
        return false;
    /* The first word of a batch step is the path slurmd wrote the script to. */
    if (spank_get_item(spank, S_JOB_ARGV, &job_argc, &job_argv) == ESPANK_SUCCESS && job_argc > 0 && job_argv[0][0] == '/')
        snprintf(opening->script, sizeof opening->script, "%s", job_argv[0]);
    return true;
}

bool opening_ask(const struct opening *opening)
{
    char line[LINE_MAX_BYTES] = "open version=1 step=batch";
    return line_add_number(line, sizeof line, "job", opening->job) && line_add_number(line, sizeof line, "uid", opening->uid) &&
           line_add_number(line, sizeof line, "gid", opening->gid) && line_add_number(line, sizeof line, "pid", getpid()) &&
           line_add(line, sizeof line, "options", opening->options) && line_add(line, sizeof line, "script", opening->script) &&
           line_send(opening->daemon, line);
}

bool opening_take_answer(struct opening *opening, const char *line)
{
    char net[16] = "";
    opening->restore = line_is(line, "restore");
    if (!opening->restore && !line_is(line, "start"))
        return false;
    strcpy(opening->answer, line);
    opening->hosts[0] = '\0';
    (void)line_value(line, "hosts", 0, opening->hosts, sizeof opening->hosts);
    (void)line_value(line, "net", 0, net, sizeof net);
    opening->private_net = strcmp(net, "host") != 0;
    opening->doorbell = (int)line_number(line, "doorbell", 0);
    opening->cgroups = 0;
    while (opening->cgroups < CGROUPS_MAX && line_value(line, "cgroup", opening->cgroups, opening->cgroup[opening->cgroups], sizeof *opening->cgroup))
        opening->cgroups++;
    return line_value(line, "hostname", 0, opening->hostname, sizeof opening->hostname);
}

bool opening_has_images(const struct opening *opening)
{
    char path[600];
    struct stat status;
    snprintf(path, sizeof path, "%s/%u", opening->store, opening->job);
    return opening->store[0] != '\0' && stat(path, &status) == 0;
}

void opening_limit(int fd, int seconds)
{
    struct timeval limit = {.tv_sec = seconds};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}
