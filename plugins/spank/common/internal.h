/* What guard and pid1 say to each other over their socket pair: one message, one datagram. */
#ifndef STINT_INTERNAL_H
#define STINT_INTERNAL_H

/* Descriptors the plugin leaves to the helpers it execs. */
#define GUARD_DAEMON_FD 3
#define GUARD_PID1_FD 4
#define PID1_GUARD_FD 3
#define PID1_LISTENER_FD 4 /* of the payload's seccomp filter; closed in a restored sandbox, whose payload has none */
#define PARKED_DAEMON_FD 3

/* PIDs in every sandbox: high enough that 2..999 are free for CRIU itself when it restores. */
#define ROOT_PID 1000
#define SCRIPT_PID 1001

/*
 * PID 1's name from the moment a process is about to restrict itself with Landlock: nobody can see that of a process from
 * outside, nor save it. The daemon reads it in /proc, where it is in force before the restriction, whoever is stopped or away.
 */
#define PID1_LANDLOCK_NAME "stint-landlock"

enum internal_kind {
    /* guard to pid1 */
    DELIVER_ALL,  /* value: signal number, to every process of the payload */
    DELIVER_TASK, /* value: signal number, to script */
    HOLD,         /* a root killed by a signal is a dump from now on; answered by HELD */
    UNHOLD,       /* answered by UNHELD, or by ROOT_ENDED when root was killed meanwhile */
    RESTORED,     /* the payload that CRIU made is the real one */
    SETTLE,       /* value: milliseconds; a root that ends within them ends no job before the guard's word */
    WAKE,         /* value: PID inside; it gets SIGURG, which does nothing to a process that does not wait for it */
    /* pid1 to guard */
    HELD,
    UNHELD,
    SIGNAL_SEEN, /* value: signal number; Slurm signalled the whole step */
    STRICT_REFUSED, /* strict seccomp mode could not be had; said once */
    ROOT_ENDED,  /* value: wait status; pid1 ends, but stays while it settles */
    ROOT_KILLED, /* value: wait status; held, pid1 stays */
};

struct internal_message {
    enum internal_kind kind;
    int value;
};

#endif
