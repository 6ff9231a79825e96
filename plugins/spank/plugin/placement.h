/* When Slurm has put the batch task into its cgroups, and what must be removed from them when the task has ended. */
#ifndef STINT_PLACEMENT_H
#define STINT_PLACEMENT_H

#include <stdbool.h>

/* In slurmstepd, before it forks the task. */
bool placement_prepare(void);

/* In slurmstepd, after the fork, when the task is in all its cgroups and its CPUs are set. */
void placement_done(void);

/*
 * In the task: waits for placement_done. slurmstepd moves a task into its cgroups only after the fork, one hierarchy after
 * the other; a process cloned earlier would stay outside and survive the job. False after `ms`.
 */
bool placement_wait(int ms);

/* In the task: slurmstepd shall remove this cgroup when the task has ended. False when there is no room for it. */
bool placement_note_cgroup(const char *directory);

/*
 * In slurmstepd, when the task has ended: removes what was noted. The guard has done so unless it was killed, and a step's
 * cgroup that still has a child can never be removed.
 */
void placement_clear(void);

#endif
