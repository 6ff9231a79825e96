#ifndef STINT_SCONTROL_H
#define STINT_SCONTROL_H

/* Starts `scontrol VERB JOB` with the words `scontrol` and `job` of a line, without waiting for it; its end is a SIGCHLD. */
void scontrol_start(const char *words, const char *verb);

#endif
