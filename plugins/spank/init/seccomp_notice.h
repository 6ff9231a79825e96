#ifndef STINT_SECCOMP_NOTICE_H
#define STINT_SECCOMP_NOTICE_H

/* What a call that the filter asks about (seccomp_filter.h) has come to. */
enum seccomp_notice {
    NOTICE_NONE,
    NOTICE_LANDLOCK,       /* a process is about to restrict itself; it waits for seccomp_notice_continue() */
    NOTICE_STRICT_ENTERED, /* a thread is in strict mode from now on */
    NOTICE_STRICT_REFUSED, /* strict mode could not be had; the caller got EINVAL */
};

/* Takes one call from a listener that has one; `id` names it. Never waits for the caller. */
enum seccomp_notice seccomp_notice_take(int listener, unsigned long long *id);

/* Lets the call go on in the kernel as if it had not been asked about. */
void seccomp_notice_continue(int listener, unsigned long long id);

#endif
