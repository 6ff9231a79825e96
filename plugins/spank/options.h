#ifndef STINT_OPTIONS_H
#define STINT_OPTIONS_H

#define OPTIONS_MAX 512

/* Why what stands after --stint= cannot be taken, in one line; NULL when it can. */
const char *options_refusal(const char *program, const char *text);

#endif
