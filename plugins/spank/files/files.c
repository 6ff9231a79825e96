/*
 * stint-init files: the daemon's hands on the job's files, run as the job's user in its mounts, so that no path of the user's
 * making leads where the user may not go. Words and answers end with NUL. Contents travel through descriptors the daemon opened.
 *
 *   save PID FD SOURCE PATH CLONE HOW   saved SIZE MTIME INODE MODE none|clone|copy|too-large|unseen OFFSET | elsewhere | failed WHY
 *   look PATH                           file SIZE MTIME INODE | missing | other | failed WHY
 *   cut PATH SIZE KEEP MTIME            done | failed WHY
 *   rewrite PATH FD OFFSET SIZE MTIME   done | failed WHY
 *   create PATH FD OFFSET SIZE MODE MTIME   done | failed WHY
 *   aside DATABASE JOURNAL SINCE        moved PATH | none | failed WHY
 *   names PATH                          free | taken | orphan | closed | failed WHY
 *   news DIRECTORY SINCE                new PATH, as many as there are; then done | failed WHY
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "roles.h"

#define WORDS_MAX 6

static char words[WORDS_MAX][PATH_MAX + 64];

static const struct verb {
    const char *name;
    int words;
} verbs[] = {{"save", 6}, {"look", 1}, {"cut", 4}, {"rewrite", 5}, {"create", 6}, {"aside", 3}, {"names", 1}, {"news", 2}};

void answer(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\0');
}

void answer_failed(void)
{
    answer("failed %s", strerror(errno));
}

static bool read_word(char *word, size_t size)
{
    size_t length = 0;
    for (int c; (c = getchar()) != EOF;) {
        if (length == size)
            return false;
        word[length++] = (char)c;
        if (c == '\0')
            return true;
    }
    return false;
}

static void act(const char *verb)
{
    if (strcmp(verb, "save") == 0)
        files_save(atoi(words[0]), atoi(words[1]), words[2], words[3], atoi(words[4]), words[5]);
    else if (strcmp(verb, "look") == 0)
        files_look(words[0]);
    else if (strcmp(verb, "cut") == 0)
        files_cut(words[0], atoll(words[1]), strcmp(words[2], "keep") == 0, words[3]);
    else if (strcmp(verb, "rewrite") == 0)
        files_rewrite(words[0], atoi(words[1]), atoll(words[2]), atoll(words[3]), words[4]);
    else if (strcmp(verb, "create") == 0)
        files_create(words[0], atoi(words[1]), atoll(words[2]), atoll(words[3]), (mode_t)atoi(words[4]), words[5]);
    else if (strcmp(verb, "aside") == 0)
        files_aside(words[0], words[1], atoll(words[2]));
    else if (strcmp(verb, "names") == 0)
        files_names(words[0]);
    else
        files_news(words[0], atoll(words[1]));
}

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(name, verbs[i].name) == 0)
            return &verbs[i];
    return NULL;
}

int files_main(void)
{
    static char name[16];
    /* Where its real id is root's, its saved one is, too: then the user cannot even signal it. */
    if (geteuid() == 0 || (getuid() == 0 && setresuid((uid_t)-1, (uid_t)-1, 0) != 0)) {
        fputs("stint-init files: not as root\n", stderr);
        return 2;
    }
    while (read_word(name, sizeof name)) {
        const struct verb *verb = find_verb(name);
        if (verb == NULL)
            return 2;
        for (int i = 0; i < verb->words; i++)
            if (!read_word(words[i], sizeof words[i]))
                return 2;
        act(verb->name);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
