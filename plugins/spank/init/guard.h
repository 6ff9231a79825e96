/*
 * guard: the batch task as Slurm knows it. Waits, turns Slurm's signals into questions to the daemon, ends like the
 * payload. Without the daemon it decides by itself (docs/reference/sandbox-protocol.md, "Fail open").
 * One thread, one loop; nothing in it may block for longer than a line to the daemon may take (SEND_MS).
 */
#ifndef STINT_GUARD_H
#define STINT_GUARD_H

#include <stdbool.h>
#include <sys/types.h>

#include "internal.h"
#include "line.h"

#define PENDING_MAX 16
#define SEND_MS 200
#define RECONNECT_MS 500
#define END_ANSWER_MS 5000 /* silence means: as without us, the payload's end is the job's */
/* How long the job waits for a daemon before the guard rescues it; tests build with less. */
#ifndef RESCUE_KILLED_MS
#define RESCUE_KILLED_MS 60000
#define RESCUE_RESTORE_MS 120000
#define RESCUE_AGAIN_MS 30000
#define STEADY_MS 10000 /* a daemon that has accepted the guard and lasts for less is no daemon regained */
#endif
#define FAILED (1 << 8) /* the wait status of exit code 1 */

/* A signal Slurm has sent, until it is decided what becomes of it. */
struct pending {
    int number; /* 0: free */
    bool by_guard, by_pid1;
    enum { SCOPE_OPEN, ASKED, OVERDUE } state; /* OVERDUE: delivered for want of an answer, which may still come */
    long long due;
};

struct guard {
    const char *words; /* what the plugin left: job, uid, sandbox, ... */
    int daemon, signals;
    pid_t pid1; /* 0: reaped */
    int doorbell;
    bool restoring, held, killed;
    bool ended; /* root has ended soon after a restore; the daemon says what that means */
    int end_status;
    long long settled, end_due; /* a root that ends before `settled` is asked about, until `end_due` */
    bool answers; /* this daemon's kind answers `attach`; an older one accepts in silence */
    bool accepted; /* a daemon cares for this sandbox; next_rescue counts only while none does */
    long long accepted_at; /* 0: by its `go` */
    long long next_try, next_rescue;
    struct pending pending[PENDING_MAX];
    struct line_reader reader;
};

/* guard.c */
void guard_to_pid1(enum internal_kind kind, int value);
/* Ends the sandbox, then this process with the status; tells the daemon before when that is the payload's own end. */
_Noreturn void guard_end(struct guard *self, int wait_status, bool is_own_end);

/* What a root's end becomes when nobody says anything else in time. */
void guard_settle_end(struct guard *self, long long now);

/* guard_daemon.c */
bool guard_tell(struct guard *self, const char *line);
void guard_take_daemon(struct guard *self);
/* What is to be done while no daemon has accepted this guard: reconnect, rescue the job. */
void guard_without_daemon(struct guard *self, long long now);
/* The next moment guard_without_daemon has something to do; -1 for none. */
long long guard_daemon_due(const struct guard *self);
/* Starts the clock after which the job is rescued; again when it has become worse. */
void guard_set_rescue(struct guard *self, long long now);

/* guard_signals.c */
void guard_saw_signal(struct guard *self, int number);
void pid1_saw_signal(struct guard *self, int number);
/* The daemon's `pass` and `drop`. */
void guard_take_answer(struct guard *self, int number, bool deliver, bool to_all);
/* The daemon has heard of it, and needs to look before it answers. */
void guard_postpone(struct guard *self, int number);
/* A new connection: what the old one was asked, and has not answered, is asked again. */
void guard_ask_again(struct guard *self);
void guard_settle_overdue(struct guard *self, long long now);
/* The next moment guard_settle_overdue has something to do; -1 for none. */
long long guard_next_due(const struct guard *self);

#endif
