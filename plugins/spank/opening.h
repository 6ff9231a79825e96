/* What a batch task knows of its job and what the daemon has answered. */
#ifndef STINT_OPENING_H
#define STINT_OPENING_H

#include <slurm/spank.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "line.h"
#include "options.h"

#define CGROUPS_MAX 4

struct opening {
    uint32_t job;
    uid_t uid;
    gid_t gid;
    char options[OPTIONS_MAX];
    char script[1024];
    char socket_path[108], store[512], helper[512], scontrol[512];
    int wait_seconds;

    int daemon;
    struct line_reader reader;
    bool told;

    bool restore, private_net;
    int doorbell;
    char hostname[256], hosts[512];
    char cgroup[CGROUPS_MAX][1024];
    int cgroups;
    char answer[LINE_MAX_BYTES];
};

bool opening_fill(spank_t spank, struct opening *opening, const char *options, int argc, char **argv);
bool opening_ask(const struct opening *opening);
/* True for `start` and `restore`, whose words are then in `opening`. */
bool opening_take_answer(struct opening *opening, const char *line);
/* Whether the store has images of this job. */
bool opening_has_images(const struct opening *opening);
/* Seconds a read may take; 0 for no limit. */
void opening_limit(int fd, int seconds);

#endif
