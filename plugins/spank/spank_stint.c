/*
 * The Slurm plugin: registers --stint and, in the batch task of a job that has it, opens the sandbox. Everything here
 * fails open: without the daemon the job runs as if the plugin were absent.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <slurm/slurm.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All else is hidden: a function of ours must not be mistaken for one of slurmstepd's with the same name. */
#pragma GCC visibility push(default)
#include <slurm/spank.h>
SPANK_PLUGIN(stint, 1)
#pragma GCC visibility pop

#include "options.h"
#include "placement.h"
#include "sandbox.h"
#include "standard_streams.h"

static char wanted_options[OPTIONS_MAX];
static bool wanted;

/* Where --stint cannot work yet: the command to blame. salloc and sbatch have the same context, so their names decide. */
static const char *unfit_command(void)
{
    if (spank_context() == S_CTX_LOCAL)
        return "srun";
    return strcmp(program_invocation_short_name, "salloc") == 0 ? "salloc" : NULL;
}

/* Called on the submit side for what the user wrote, and in slurmstepd for what the job carries. */
static int take_option(int value, const char *argument, int remote)
{
    (void)value;
    const char *text = argument == NULL || strcmp(argument, "(null)") == 0 ? "" : argument;
    const char *unfit = remote ? NULL : unfit_command();
    const char *refusal = remote ? NULL : options_refusal(text);
    if (unfit != NULL) {
        slurm_error("stint: --stint works with sbatch, not with %s: put the command into a batch script and submit that with sbatch --stint (start MPI ranks in it with mpirun)", unfit);
        return -1;
    }
    if (refusal != NULL) {
        slurm_error("stint: %s", refusal);
        return -1;
    }
    if (strlen(text) >= sizeof wanted_options)
        return -1;
    strcpy(wanted_options, text);
    wanted = true;
    return 0;
}

int slurm_spank_init(spank_t spank, int argc, char **argv)
{
    static char usage[2 * OPTIONS_MAX];
    static struct spank_option option = {.name = "stint", .arginfo = "key=value,...", .usage = usage, .has_arg = 2, .cb = take_option};
    (void)argc;
    (void)argv;
    snprintf(usage, sizeof usage, "save this job before its time limit and continue it under the same id (%s)", options_known());
    return spank_option_register(spank, &option) == ESPANK_SUCCESS ? 0 : -1;
}

static bool is_batch_step(spank_t spank)
{
    uint32_t step = 0;
    return wanted && spank_get_item(spank, S_JOB_STEPID, &step) == ESPANK_SUCCESS && step == SLURM_BATCH_SCRIPT;
}

/*
 * srun in a private network hangs: slurmstepd cannot connect back to it. The job ids tell such an srun from one of another
 * job that has merely inherited the variables. exit, because Slurm ignores what an `optional` plugin returns.
 */
static void refuse_srun_in_private_network(void)
{
    const char *net = getenv("STINT_NET");
    const char *sandboxed = getenv("STINT_JOB_ID");
    const char *job = getenv("SLURM_JOB_ID");
    if (net == NULL || strcmp(net, "private") != 0 || sandboxed == NULL || job == NULL || strcmp(sandboxed, job) != 0)
        return;
    slurm_error("stint: srun cannot work in this job's private network: start ranks with mpirun, or submit the job with --stint=net=host");
    exit(1);
}

int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    if (spank_context() == S_CTX_LOCAL)
        refuse_srun_in_private_network();
    else if (spank_context() == S_CTX_REMOTE && is_batch_step(spank) && !placement_prepare())
        slurm_error("stint: %m; the job will run without checkpoints");
    return 0;
}

int slurm_spank_task_init_privileged(spank_t spank, int argc, char **argv)
{
    if (is_batch_step(spank))
        sandbox_enter(spank, wanted_options, argc, argv);
    return 0;
}

/* The last callback before the script, as the user: slurmstepd has set the standard streams by now. */
int slurm_spank_task_init(spank_t spank, int argc, char **argv)
{
    (void)spank;
    (void)argc;
    (void)argv;
    if (sandbox_entered())
        standard_streams_reopen();
    return 0;
}

/* In slurmstepd: it calls this after all its plugins have placed the task, just before it lets the task go on. */
int slurm_spank_task_post_fork(spank_t spank, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    if (is_batch_step(spank))
        placement_done();
    return 0;
}

int slurm_spank_task_exit(spank_t spank, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    if (is_batch_step(spank))
        placement_clear();
    return 0;
}
