#ifndef STINT_COMMAND_EXEC_H
#define STINT_COMMAND_EXEC_H

#include <stdbool.h>
#include <stddef.h>

/* Whether a body is made of whole strings, and has the two that must be there: the line for /bin/sh and the directory. */
bool command_body_is_sound(const char *body, size_t length);

/*
 * In the child: becomes the command. Its environment is the one sent, except for names of ours: those tell where it runs, which
 * is here. A directory this node does not have is replaced by the root.
 */
_Noreturn void command_exec(char *body, size_t length, int output, int error);

#endif
