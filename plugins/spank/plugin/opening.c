#define _GNU_SOURCE
#include "opening.h"

#include <slurm/slurm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

void tell_user(const char *text)
{
    dprintf(STDERR_FILENO, "stint: %s\n", text);
}

void tell_message(const char *line)
{
    char message[LINE_MAX_BYTES];
    if (line_value(line, "message", 0, message, sizeof message))
        tell_user(message);
}

static bool take_argument(const char *argument, const char *key, char *value, size_t size)
{
    size_t length = strlen(key);
    if (strncmp(argument, key, length) != 0 || argument[length] != '=' || strlen(argument + length + 1) >= size)
        return false;
    strcpy(value, argument + length + 1);
    return true;
}

/* plugstack.conf: optional spank_stint.so socket=... store=... wait=SECONDS helper=... scontrol=... */
static void take_arguments(struct opening *opening, int argc, char **argv)
{
    char wait[8] = "5";
    strcpy(opening->socket_path, "/run/stint/sandbox.sock");
    strcpy(opening->helper, LIBEXEC_DIR "/stint-init");
    strcpy(opening->scontrol, "/usr/bin/scontrol");
    for (int i = 0; i < argc; i++)
        if (!take_argument(argv[i], "socket", opening->socket_path, sizeof opening->socket_path) &&
            !take_argument(argv[i], "store", opening->store, sizeof opening->store) &&
            !take_argument(argv[i], "helper", opening->helper, sizeof opening->helper) &&
            !take_argument(argv[i], "scontrol", opening->scontrol, sizeof opening->scontrol) && !take_argument(argv[i], "wait", wait, sizeof wait))
            slurm_error("stint: plugstack.conf: \"%s\" is not known or too long", argv[i]);
    opening->wait_seconds = atoi(wait) > 0 ? atoi(wait) : 5;
}

static void take_name(spank_t spank, struct opening *opening)
{
    uint32_t array = 0, task = NO_VAL;
    if (spank_get_item(spank, S_JOB_ARRAY_ID, &array) == ESPANK_SUCCESS && spank_get_item(spank, S_JOB_ARRAY_TASK_ID, &task) == ESPANK_SUCCESS && array != 0 && task != NO_VAL)
        snprintf(opening->name, sizeof opening->name, "%u_%u", array, task);
    else
        snprintf(opening->name, sizeof opening->name, "%u", opening->job);
}

bool opening_fill(spank_t spank, struct opening *opening, int member, const char *options, int argc, char **argv)
{
    char **job_argv = NULL;
    int job_argc = 0;
    take_arguments(opening, argc, argv);
    opening->daemon = -1;
    opening->member = member;
    strcpy(opening->options, options);
    if (spank_get_item(spank, S_JOB_ID, &opening->job) != ESPANK_SUCCESS || spank_get_item(spank, S_JOB_STEPID, &opening->step) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_UID, &opening->uid) != ESPANK_SUCCESS || spank_get_item(spank, S_JOB_GID, &opening->gid) != ESPANK_SUCCESS)
        return false;
    take_name(spank, opening);
    /* The first word of a batch step is the path slurmd wrote the script to. */
    if (member == 0 && spank_get_item(spank, S_JOB_ARGV, &job_argc, &job_argv) == ESPANK_SUCCESS && job_argc > 0 && job_argv[0][0] == '/' &&
        strlen(job_argv[0]) < sizeof opening->script)
        strcpy(opening->script, job_argv[0]);
    return true;
}

bool opening_add_place(const struct opening *opening, char line[LINE_MAX_BYTES])
{
    if (opening->member == 0)
        return line_add(line, LINE_MAX_BYTES, "step", "batch");
    return line_add_number(line, LINE_MAX_BYTES, "step", opening->step) && line_add_number(line, LINE_MAX_BYTES, "member", opening->member);
}

bool opening_ask(struct opening *opening)
{
    char line[LINE_MAX_BYTES] = "open version=1";
    opening->reader.length = 0;
    opening->daemon = line_connect(opening->socket_path, opening->wait_seconds * 1000);
    return opening->daemon >= 0 && opening_add_place(opening, line) && line_add_number(line, sizeof line, "job", opening->job) && line_add_number(line, sizeof line, "uid", opening->uid) &&
           line_add_number(line, sizeof line, "gid", opening->gid) && line_add_number(line, sizeof line, "pid", getpid()) &&
           line_add(line, sizeof line, "options", opening->options) && line_add(line, sizeof line, "script", opening->script) &&
           line_send(opening->daemon, line);
}

bool opening_verdict(struct opening *opening, char line[LINE_MAX_BYTES], long long deadline)
{
    static const char *const verdicts[] = {"start", "restore", "go", "refuse", "park"};
    char text[LINE_MAX_BYTES];
    /* The clock is looked at for each line, too: even a flood of lines may not keep the job waiting. */
    while (now_ms() < deadline && line_await(opening->daemon, &opening->reader, line, deadline)) {
        for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++)
            if (line_is(line, verdicts[i]))
                return true;
        if (line_is(line, "say") && line_value(line, "text", 0, text, sizeof text))
            tell_user(text);
    }
    return false;
}

bool opening_take_answer(struct opening *opening, const char *line)
{
    char net[16] = "";
    strcpy(opening->answer, line);
    opening->restore = line_is(line, "restore");
    opening->hosts[0] = '\0';
    (void)line_value(line, "hosts", 0, opening->hosts, sizeof opening->hosts);
    opening->private_net = line_value(line, "net", 0, net, sizeof net) && strcmp(net, "private") == 0;
    opening->doorbell = (int)line_number(line, "doorbell", 0);
    opening->nodes = (int)line_number(line, "nodes", 1);
    opening->attached = line_number(line, "attached", 0) == 1;
    opening->cgroups = 0;
    while (opening->cgroups < CGROUPS_MAX && line_value(line, "cgroup", opening->cgroups, opening->cgroup[opening->cgroups], CGROUP_PATH_MAX))
        opening->cgroups++;
    return opening->cgroups > 0 && net[0] != '\0' && line_value(line, "hostname", 0, opening->hostname, sizeof opening->hostname);
}

void opening_close(struct opening *opening)
{
    if (opening->daemon >= 0)
        close(opening->daemon);
    opening->daemon = -1;
}

bool opening_has_images(const struct opening *opening)
{
    char path[600];
    struct stat status;
    snprintf(path, sizeof path, "%s/%u", opening->store, opening->job);
    return opening->store[0] != '\0' && stat(path, &status) == 0;
}
