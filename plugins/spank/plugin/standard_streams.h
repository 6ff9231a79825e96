#ifndef STINT_STANDARD_STREAMS_H
#define STINT_STANDARD_STREAMS_H

/*
 * Opens the job's standard input, output and error again, in this process's mounts: slurmstepd opened them in the node's,
 * where CRIU does not find them ("Can't lookup mount=N for fd=M"; with an overlay as root it looks further, which hides
 * this). To be called as the job's user, whose files they are. A stream that cannot be opened again, or whose path is another
 * file by now, stays as it is: the job runs, and a checkpoint will say what it lacks.
 */
void standard_streams_reopen(void);

#endif
