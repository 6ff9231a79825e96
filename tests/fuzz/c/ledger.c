/* Words that `stint-init ledger put` takes out of an image's record, as root; no descriptor or thread they name is there. */
#include "../../../plugins/spank/ledger/ledger.c"

#include <stdint.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *words = malloc(size);
    must_hold(words != NULL);
    memcpy(words, data + 1, size - 1);
    words[size - 1] = '\0';
    int which = data[0] % 4; /* option, socket, group, timer */
    if (which == 0)
        (void)ledger_add_option(words);
    else if (which == 1)
        ledger_put_options(1, 2, -1, words);
    else if (which == 2)
        ledger_put_group(1, 2, -1, words);
    else
        ledger_put_timer(1, 2, -1, words);
    free(words);
    return 0;
}
