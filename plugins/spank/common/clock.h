#ifndef STINT_CLOCK_H
#define STINT_CLOCK_H

#include <time.h>

/* Milliseconds of a clock that nobody sets and that counts a sleep of the machine. */
static inline long long now_ms(void)
{
    struct timespec time = {0};
    (void)clock_gettime(CLOCK_BOOTTIME, &time);
    return (long long)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

#endif
