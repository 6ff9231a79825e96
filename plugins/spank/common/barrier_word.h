/* The word that the daemon says at a barrier. */
#ifndef STINT_BARRIER_WORD_H
#define STINT_BARRIER_WORD_H

#include <stdbool.h>

/*
 * Tells the daemon the action's name and waits for its word, as the environment says (STINT_BARRIER, STINT_BARRIER_TIMEOUT,
 * STINT_BARRIER_RECONNECT). `reach` connects: CRIU itself must do that in another way than its action script.
 * True only for a clear "commit".
 */
bool barrier_word(const char *action, int (*reach)(const char *path, int ms));

#endif
