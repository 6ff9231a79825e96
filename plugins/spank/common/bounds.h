#ifndef STINT_BOUNDS_H
#define STINT_BOUNDS_H

/* One payload cgroup per hierarchy Slurm tracks processes by; in practice one. */
#define CGROUPS_MAX 4
#define CGROUP_PATH_MAX 1024

#endif
