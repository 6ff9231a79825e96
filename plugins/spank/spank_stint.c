/*
 * The Slurm plugin: registers --stint and, in the batch task of a job that has it, opens the sandbox. Everything here
 * fails open: without the daemon the job runs as if the plugin were absent.
 */
#define _GNU_SOURCE
#include <slurm/slurm.h>
#include <slurm/spank.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "sandbox.h"

SPANK_PLUGIN(stint, 1);

static char wanted_options[OPTIONS_MAX];
static bool wanted;

/* Called on the submit side for what the user wrote, and in slurmstepd for what the job carries. */
static int take_option(int value, const char *argument, int remote)
{
    (void)value;
    const char *text = argument == NULL || strcmp(argument, "(null)") == 0 ? "" : argument;
    if (!remote) {
        const char *refusal = options_refusal(program_invocation_short_name, text);
        if (refusal != NULL) {
            slurm_error("stint: %s", refusal);
            return -1;
        }
    }
    if (strlen(text) >= sizeof wanted_options)
        return -1;
    strcpy(wanted_options, text);
    wanted = true;
    return 0;
}

static struct spank_option stint_option = {
    .name = "stint",
    .arginfo = "key=value,...",
    .usage = "checkpoint, requeue and continue this job across time limits (keys: net=private|host, signal=doorbell|pass)",
    .has_arg = 2,
    .val = 0,
    .cb = take_option,
};

int slurm_spank_init(spank_t spank, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return spank_option_register(spank, &stint_option) == ESPANK_SUCCESS ? 0 : -1;
}

/* srun in a private network cannot work: slurmstepd cannot connect back to it. Say so instead of hanging. */
int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
    (void)spank;
    (void)argc;
    (void)argv;
    const char *net = getenv("STINT_NET");
    if (spank_context() != S_CTX_LOCAL || net == NULL || strcmp(net, "private") != 0)
        return 0;
    slurm_error("stint: srun cannot reach Slurm from a job with a private network; start ranks with mpirun, or submit with --stint=net=host");
    return -1;
}

int slurm_spank_task_init_privileged(spank_t spank, int argc, char **argv)
{
    uint32_t step = 0;
    if (!wanted)
        return 0;
    if (spank_get_item(spank, S_JOB_STEPID, &step) != ESPANK_SUCCESS || step != SLURM_BATCH_SCRIPT)
        return 0;
    sandbox_enter(spank, wanted_options, argc, argv);
    return 0;
}
