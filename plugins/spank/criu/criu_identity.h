/* Who CRIU is to the file system: the job's user, without any right to pass over modes and owners. */
#ifndef STINT_CRIU_IDENTITY_H
#define STINT_CRIU_IDENTITY_H

#include <stdbool.h>

/* For the length of one call, and none inside another but PAYLOAD inside ROOT. */
enum identity {
    ROOT,    /* file system ids of root: next to nothing is done so (criu_paths.c has the list) */
    OWNER,   /* effective ids of the user, capabilities as they are */
    PAYLOAD, /* the file system ids of the user as ever, and no capability: as if the payload made the call */
    FINDER,  /* CAP_DAC_READ_SEARCH, which only a dump may have */
};

/* Both keep errno, end CRIU where they fail, and do nothing where CRIU does not act for a user (it only tells its version). */
void identity_enter(enum identity identity);
void identity_leave(enum identity identity);

bool identity_is_set(void);
/* In a dump, else in a restore; and whose. */
bool identity_is_dump(void);
unsigned identity_user(void);

/* All ids are root's, before another program is executed: a dump has the user's effective one. */
bool identity_before_exec(void);

#endif
