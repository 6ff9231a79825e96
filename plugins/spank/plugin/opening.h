/* What the task of a batch or member step knows of its job, and what it and the daemon say to each other before the sandbox stands. */
#ifndef STINT_OPENING_H
#define STINT_OPENING_H

#include <slurm/spank.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bounds.h"
#include "line.h"
#include "options.h"

struct opening {
    uint32_t job, step;
    char name[32]; /* of the job for scontrol: the id of an array's last task is the whole array's */
    int member; /* 0: the batch task */
    uid_t uid;
    gid_t gid;
    char options[OPTIONS_MAX];
    char script[1024];
    char socket_path[108], store[512], helper[512], scontrol[512];
    int wait_seconds;

    int daemon; /* -1: no connection */
    struct line_reader reader;

    bool restore, private_net, attached; /* attached: the daemon answers `attach` */
    int doorbell, nodes; /* nodes: of the job, as the daemon counts them; slurmstepd counts those of the step */
    char hostname[256], hosts[512];
    char cgroup[CGROUPS_MAX][CGROUP_PATH_MAX];
    int cgroups;
    char answer[LINE_MAX_BYTES];
};

/* Takes what Slurm and plugstack.conf say. */
bool opening_fill(spank_t spank, struct opening *opening, int member, const char *options, int argc, char **argv);

/* Adds the words that say which of the job's tasks this is. */
bool opening_add_place(const struct opening *opening, char line[LINE_MAX_BYTES]);

/* Connects and sends `open`. */
bool opening_ask(struct opening *opening);

/*
 * Waits for the daemon's next verdict (`start`, `restore`, `go`, `refuse`, `park`) until `deadline` (clock.h), printing what
 * it has to `say` meanwhile and ignoring what this version does not know. False when none has come.
 */
bool opening_verdict(struct opening *opening, char line[LINE_MAX_BYTES], long long deadline);

/* Takes the words of `start` or `restore`; false when one that is needed is missing. */
bool opening_take_answer(struct opening *opening, const char *line);

void opening_close(struct opening *opening);

/* Whether the store has images of this job. */
bool opening_has_images(const struct opening *opening);

/* One line on the job's stderr, which slurmstepd has put on descriptor 2; its own log is not the user's. */
void tell_user(const char *text);
/* The message of `refuse` or `park`. */
void tell_message(const char *line);

#endif
