#ifndef STINT_AGENT_OUTPUT_H
#define STINT_AGENT_OUTPUT_H

#include <stddef.h>

/*
 * Writes all of this; what nobody can read any more is dropped. While the reader lets us wait, `meanwhile` is called several
 * times a second.
 */
void agent_output(int fd, const char *bytes, size_t length, void (*meanwhile)(void *), void *context);

#endif
