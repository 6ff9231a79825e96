#ifndef STINT_CLOSE_FROM_H
#define STINT_CLOSE_FROM_H

#include <stdbool.h>

/* Closes all descriptors from `first` on, without allocation: it runs in a copy of slurmstepd. @return whether all are closed */
bool close_from(int first);

#endif
