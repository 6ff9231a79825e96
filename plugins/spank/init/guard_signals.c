/* Slurm's signals: seen, asked about, delivered or not. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "guard.h"

#define SCOPE_MS 20      /* Slurm signals the processes of a step one after the other, within this */
#define ANSWER_MS 1000   /* the daemon answers within this, or the signal is delivered */
#define LOOK_MS 10000    /* as long as it may take the daemon to find out why; Slurm's SIGKILL follows after KillWait (30 s) */
#define OVERDUE_MS 60000 /* a later answer is one to the same question, not a new order */

static void deliver(int number, bool to_all)
{
    guard_to_pid1(to_all ? DELIVER_ALL : DELIVER_TASK, number);
}

static struct pending *find(struct guard *self, int number, bool overdue)
{
    for (int i = 0; i < PENDING_MAX; i++)
        if (self->pending[i].number == number && (number == 0 || (self->pending[i].state == OVERDUE) == overdue))
            return &self->pending[i];
    return NULL;
}

static void send_question(struct guard *self, const struct pending *signal)
{
    char line[64];
    snprintf(line, sizeof line, "signal number=%d scope=%s", signal->number, signal->by_pid1 ? "all" : "task");
    (void)guard_tell(self, line); /* Unsent, it is asked again on the next connection or delivered when due. */
}

/*
 * Suspension and continuation need no decision. SIGSTOP in place of SIGTSTP where Slurm signals every process: SIGTSTP has no
 * effect on a session without a terminal.
 */
static bool settle_here(const struct pending *signal)
{
    if (signal->number != SIGTSTP && signal->number != SIGCONT)
        return false;
    deliver(signal->number == SIGTSTP && signal->by_pid1 ? SIGSTOP : signal->number, signal->by_pid1);
    return true;
}

static void scope_is_known(struct guard *self, struct pending *signal)
{
    if (settle_here(signal)) {
        signal->number = 0;
        return;
    }
    signal->state = ASKED;
    signal->due = now_ms() + ANSWER_MS;
    send_question(self, signal);
}

/* One more process has got the signal: guard, pid1, or both by now. */
static void saw(struct guard *self, int number, bool by_pid1)
{
    struct pending *signal = find(self, number, false);
    if (signal == NULL) {
        signal = find(self, 0, false);
        if (signal == NULL) /* More kinds of signals at once than Slurm has: never withhold one. */
            return deliver(number, by_pid1);
        *signal = (struct pending){.number = number, .state = SCOPE_OPEN, .due = now_ms() + SCOPE_MS};
    }
    signal->by_pid1 |= by_pid1;
    signal->by_guard |= !by_pid1;
    if (signal->state == SCOPE_OPEN && signal->by_guard && signal->by_pid1)
        scope_is_known(self, signal);
}

void guard_saw_signal(struct guard *self, int number)
{
    saw(self, number, false);
}

void pid1_saw_signal(struct guard *self, int number)
{
    saw(self, number, true);
}

void guard_take_answer(struct guard *self, int number, bool pass, bool to_all)
{
    struct pending *signal = find(self, number, false);
    if (number <= 0 || number >= NSIG)
        return;
    if (signal != NULL && signal->state == ASKED) {
        if (pass)
            deliver(number, signal->by_pid1);
        signal->number = 0;
    } else if ((signal = find(self, number, true)) != NULL) {
        signal->number = 0; /* It was delivered already. */
    } else if (pass) {
        deliver(number, to_all); /* A second word on a signal that was dropped, or one of the daemon's own. */
    }
}

void guard_postpone(struct guard *self, int number)
{
    struct pending *signal = find(self, number, false);
    if (number > 0 && signal != NULL && signal->state == ASKED)
        signal->due = now_ms() + LOOK_MS;
}

void guard_ask_again(struct guard *self)
{
    for (int i = 0; i < PENDING_MAX; i++)
        if (self->pending[i].number != 0 && self->pending[i].state == ASKED)
            send_question(self, &self->pending[i]);
}

void guard_settle_overdue(struct guard *self, long long now)
{
    for (int i = 0; i < PENDING_MAX; i++) {
        struct pending *signal = &self->pending[i];
        if (signal->number == 0 || now < signal->due)
            continue;
        if (signal->state == SCOPE_OPEN) {
            scope_is_known(self, signal);
        } else if (signal->state == OVERDUE) {
            signal->number = 0;
        } else {
            if (signal->number != self->doorbell) /* The doorbell is meant for the daemon; it kills a script that knows nothing of it. */
                deliver(signal->number, signal->by_pid1);
            signal->state = OVERDUE;
            signal->due = now + OVERDUE_MS;
        }
    }
}

long long guard_next_due(const struct guard *self)
{
    long long next = -1;
    for (int i = 0; i < PENDING_MAX; i++)
        if (self->pending[i].number != 0 && (next < 0 || self->pending[i].due < next))
            next = self->pending[i].due;
    return next;
}
