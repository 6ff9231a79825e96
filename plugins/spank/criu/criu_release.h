#ifndef STINT_CRIU_RELEASE_H
#define STINT_CRIU_RELEASE_H

#include <sys/ptrace.h>

/* What CRIU asks of ptrace, before the kernel gets it; returns the data to ask with. Does nothing but in a restore. */
void *release_before(enum __ptrace_request request, void *data);

#endif
