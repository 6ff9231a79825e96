/* What a user writes after --stint= and the daemon after --stint-member=. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    must_hold(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    const char *refusal = options_refusal(text);
    must_hold(refusal == NULL || strncmp(refusal, "--stint ", 8) == 0 || strlen(text) >= OPTIONS_MAX);
    must_hold(refusal == NULL ? strlen(text) < OPTIONS_MAX : strlen(refusal) > 0);
    int member = options_member(text);
    must_hold(member >= 0 && member < MEMBERS_MAX);
    free(text);
    return 0;
}
