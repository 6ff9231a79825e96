#ifndef STINT_AGENT_WORDS_H
#define STINT_AGENT_WORDS_H

#include <stdbool.h>

/* What an MPI launcher gives its remote shell, understood as ssh does. */
struct agent_words {
    const char *host;
    char *command; /* one line for /bin/sh */
};

/* Takes `[OPTIONS] [USER@]HOST [OPTIONS] COMMAND [ARGS...]`; false, with a line on stderr, when that is not what it is. */
bool agent_words_take(struct agent_words *words, int argc, char **argv);

#endif
