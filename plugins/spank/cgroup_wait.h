#ifndef STINT_CGROUP_WAIT_H
#define STINT_CGROUP_WAIT_H

#include <stdbool.h>

/*
 * Waits until slurmstepd has put this process into the step's cgroup of every hierarchy that has one: it does so only
 * after the fork, and a process cloned earlier would stay outside and survive the job. False after `milliseconds`.
 */
bool cgroup_wait(int milliseconds);

#endif
