#include "options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Every word that may stand between commas; the daemon has the same list (daemon/core/options.ts). */
static const char *const known[] = {"net=private", "net=host", "signal=doorbell", "signal=pass"};

static bool is_known(const char *word, size_t length)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i]) == length && strncmp(known[i], word, length) == 0)
            return true;
    return false;
}

const char *options_refusal(const char *program, const char *text)
{
    static char refusal[OPTIONS_MAX + 128];
    if (strcmp(program, "srun") == 0 || strcmp(program, "salloc") == 0) {
        snprintf(refusal, sizeof refusal, "--stint works with sbatch: put the command into a batch script (MPI ranks by mpirun), not into %s", program);
        return refusal;
    }
    if (strlen(text) >= OPTIONS_MAX)
        return "what stands after --stint= is too long";
    for (const char *word = text; *word != '\0';) {
        size_t length = strcspn(word, ",");
        if (!is_known(word, length)) {
            snprintf(refusal, sizeof refusal, "--stint does not know \"%.*s\"; known: net=private|host, signal=doorbell|pass", (int)length, word);
            return refusal;
        }
        word += length + (word[length] == ',');
    }
    return NULL;
}
