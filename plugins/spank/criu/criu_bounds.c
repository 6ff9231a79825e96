/*
 * LD_PRELOAD for criu, part of criu-shim.so: a dump that can be stopped.
 *
 * A CRIU that is killed in its work leaves its traces in the payload; one whose write fails takes them out again, resumes the payload
 * and ends with an error. So no file may become larger than STINT_FILE_LIMIT says, and at SIGTERM none may grow any more. Lowering
 * the soft limit needs no right, and does not reach the payload: its limits are set from what CRIU read of it.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0)
        return;
    if (bytes >= limit.rlim_cur) /* It was told to stop before this program was started. */
        return;
    limit.rlim_cur = bytes;
    /* A failure leaves the limit as it was: the daemon ends what does not end by itself. */
    (void)setrlimit(RLIMIT_FSIZE, &limit);
}

static void stop_writing(int signal_number)
{
    (void)signal_number;
    limit_files(0);
}

__attribute__((constructor)) static void set_bounds(void)
{
    const char *text = getenv("STINT_FILE_LIMIT");
    if (text == NULL)
        return;
    struct sigaction on_term = {.sa_handler = stop_writing, .sa_flags = SA_RESTART};
    /* A write beyond the limit fails; by default the signal beside it would kill. */
    if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || sigaction(SIGTERM, &on_term, NULL) != 0)
        return;
    limit_files(strtoull(text, NULL, 10));
}
