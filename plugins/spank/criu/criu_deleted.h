/* Deleted files of somebody else, and where the user may make no name. */
#ifndef STINT_CRIU_DELETED_H
#define STINT_CRIU_DELETED_H

struct stat64;

/* After a change of owner that the kernel refused: CRIU is told what it wanted, where the file is the user's own. */
void owner_as_wanted(const char *path, struct stat64 *status);

#endif
