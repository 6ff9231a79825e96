/* The body of a launch, which any process of the user's can send: command line, directory and environment, each ended by a null byte. */
#include "command_exec.c"

#include <stdint.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *body = malloc(size + 1);
    must_hold(body != NULL);
    /* Some of them end as a body must, so that they get further. */
    size_t length = size > 0 && data[0] % 2 == 0 ? size + 1 : size;
    memcpy(body, data, size);
    body[size] = '\0';
    if (command_body_is_sound(body, length)) {
        char *directory = body + strlen(body) + 1;
        must_hold(directory < body + length);
        char *first = directory + strlen(directory) + 1;
        char **environment = merge_environment(first, body + length);
        must_hold(first <= body + length && environment != NULL);
        for (char **entry = environment; *entry != NULL; entry++)
            must_hold(!is_ours(*entry) || *entry < body || *entry >= body + length);
        free(environment);
    }
    free(body);
    return 0;
}
