#define _GNU_SOURCE
#include "agent_words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The options of OpenSSH's ssh; all are passed over. `+`: they end where the host or the command begins. */
#define SSH_OPTIONS "+1246AaCfGgKkMNnqsTtVvXxYyB:b:c:D:E:e:F:I:i:J:L:l:m:O:o:P:p:Q:R:S:W:w:"

/*
 * ssh has no long options, but Slurm gives one to every launcher: HYDRA_LAUNCHER_EXTRA_ARGS=--external-launcher in each job's
 * environment is meant for its own srun.
 */
static int drop_long_options(int argc, char **argv)
{
    int kept = 1, i = 1;
    for (; i < argc && argv[i][0] == '-'; i++)
        if (argv[i][1] != '-')
            argv[kept++] = argv[i];
    while (i < argc)
        argv[kept++] = argv[i++];
    argv[kept] = NULL;
    return kept;
}

static bool pass_options(int argc, char **argv)
{
    for (int option; (option = getopt(argc, argv, SSH_OPTIONS)) != -1;)
        if (option == '?')
            return false;
    return true;
}

static char *join(char **words, int count)
{
    size_t length = 1;
    for (int i = 0; i < count; i++)
        length += strlen(words[i]) + 1;
    char *text = calloc(length, 1);
    char *end = text;
    for (int i = 0; text != NULL && i < count; i++) {
        if (i > 0)
            *end++ = ' ';
        end = stpcpy(end, words[i]);
    }
    return text;
}

bool agent_words_take(struct agent_words *words, int argc, char **argv)
{
    argc = drop_long_options(argc, argv);
    if (!pass_options(argc, argv))
        return false;
    if (optind < argc) {
        const char *at = strrchr(argv[optind], '@');
        words->host = at != NULL ? at + 1 : argv[optind];
        optind++;
        if (!pass_options(argc, argv))
            return false;
    }
    if (optind >= argc) {
        fputs("usage: stint-agent [OPTIONS OF SSH] HOST COMMAND [ARGS...]\n", stderr);
        return false;
    }
    words->command = join(argv + optind, argc - optind);
    return words->command != NULL;
}
