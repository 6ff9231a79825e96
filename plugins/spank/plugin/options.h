#ifndef STINT_OPTIONS_H
#define STINT_OPTIONS_H

#define OPTIONS_MAX 512
/* Hosts of a job, the batch host among them. */
#define MEMBERS_MAX 1024

/* Why what stands after --stint= cannot be taken, in one line; NULL when it can. */
const char *options_refusal(const char *text);

/* The number after --stint-member=, 1 to MEMBERS_MAX - 1; 0 when it is none. */
int options_member(const char *text);

/* The known keys with their values: "net=private|host, signal=doorbell|pass, ...". */
const char *options_known(void);

#endif
