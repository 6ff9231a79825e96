#ifndef STINT_IO_URING_H
#define STINT_IO_URING_H

#include <stdbool.h>

/* Hides io_uring from this process and all it starts: CRIU cannot dump its rings, and libraries fall back without it. */
bool io_uring_hide(void);

#endif
