/*
 * The Slurm plugin: registers --stint and, in the batch task of a job that has it, opens the sandbox. That fails open:
 * without the daemon the job runs as if the plugin were absent. The daemon itself starts steps with --stint-member=N, one
 * for each further node of such a job; their sandboxes fail closed, because such a step has no life without one.
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
static int wanted_member; /* 0: not a member step */

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

static int take_member(int value, const char *argument, int remote)
{
    (void)value;
    int member = options_member(argument);
    if (member == 0 && !remote)
        slurm_error("stint: --stint-member is for the daemon's own use");
    wanted_member = member;
    return member > 0 ? 0 : -1;
}

/* Only srun knows it, so only its --help shows it, and slurmstepd, which gets it from there. */
static bool register_member(spank_t spank)
{
    static struct spank_option option = {.name = "stint-member", .arginfo = "N", .usage = "used by stintd itself", .has_arg = 1, .cb = take_member};
    spank_context_t context = spank_context();
    return (context != S_CTX_LOCAL && context != S_CTX_REMOTE) || spank_option_register(spank, &option) == ESPANK_SUCCESS;
}

int slurm_spank_init(spank_t spank, int argc, char **argv)
{
    static char usage[2 * OPTIONS_MAX];
    static struct spank_option option = {.name = "stint", .arginfo = "key=value,...", .usage = usage, .has_arg = 2, .cb = take_option};
    (void)argc;
    (void)argv;
    snprintf(usage, sizeof usage, "save this job before its time limit and continue it under the same id (%s)", options_known());
    return spank_option_register(spank, &option) == ESPANK_SUCCESS && register_member(spank) ? 0 : -1;
}

/* Whether this step gets a sandbox: the batch step of a job with --stint, as member 0, or a step with --stint-member. */
static bool is_member(spank_t spank, int *member)
{
    uint32_t step = 0;
    if (spank_get_item(spank, S_JOB_STEPID, &step) != ESPANK_SUCCESS)
        return false;
    *member = step == SLURM_BATCH_SCRIPT ? 0 : wanted_member;
    return step == SLURM_BATCH_SCRIPT ? wanted : step <= SLURM_MAX_NORMAL_STEP_ID && wanted_member > 0;
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
    int member;
    (void)argc;
    (void)argv;
    if (spank_context() == S_CTX_LOCAL)
        refuse_srun_in_private_network();
    else if (spank_context() == S_CTX_REMOTE && is_member(spank, &member) && !placement_prepare())
        slurm_error("stint: %m; the task will have no sandbox");
    return 0;
}

int slurm_spank_task_init_privileged(spank_t spank, int argc, char **argv)
{
    int member;
    if (is_member(spank, &member))
        sandbox_enter(spank, member, member == 0 ? wanted_options : "", argc, argv);
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
    int member;
    (void)argc;
    (void)argv;
    if (is_member(spank, &member))
        placement_done();
    return 0;
}

int slurm_spank_task_exit(spank_t spank, int argc, char **argv)
{
    int member;
    (void)argc;
    (void)argv;
    if (is_member(spank, &member))
        placement_clear();
    return 0;
}
