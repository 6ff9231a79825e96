/* A target of libFuzzer's (https://llvm.org/docs/LibFuzzer.html), or of driver.c where clang is missing. */
#ifndef STINT_FUZZ_H
#define STINT_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In every build, and with the place. */
#define must_hold(condition)                                                              \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

#endif
