#ifndef STINT_SCONTROL_H
#define STINT_SCONTROL_H

/*
 * Starts `scontrol VERB JOB` (requeue, requeuehold) with the words `scontrol`, `name` (or `job`) and `nodes` of a line, without waiting for
 * it; its end is a SIGCHLD. A job of several nodes is put back only while it runs: a requeue while Slurm ends it may crash
 * slurmctld when one of its nodes is down (ticket 23768; before 26.05.4), and the next daemon puts it back in time.
 */
void scontrol_put_back(const char *words, const char *verb);

#endif
