/*
 * LD_PRELOAD for criu: two silent losses of CRIU 4.2 mended at dump time.
 *
 * 1. Interrupted system calls. A task stopped in poll, nanosleep, clock_nanosleep or a futex wait with timeout shows ax = -ERESTART_RESTARTBLOCK
 * (-516), which CRIU turns into -EINTR, in the image and in a task left running; many programs die of that. Shown as
 * -ERESTARTNOINTR (-513) instead, CRIU issues the call again with its own arguments. nanosleep and clock_nanosleep
 * then get the time left, which the kernel stored at `rem`. Proper place: compel/arch/x86/src/lib/infect.c of CRIU;
 * this can go when CRIU handles -516 there. x86-64 only; on other machines it changes nothing.
 *
 * 2. Periodic timerfds that have expired unread show it_value (0, 0) beside ticks > 0, and CRIU restores them disarmed:
 * the program waits for ever (https://github.com/checkpoint-restore/criu/issues/3162). Shown as due in one nanosecond,
 * the timer goes on. This can go with that issue.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "criu_release.h"

#if defined(__x86_64__)
#define ERESTARTNOINTR 513
#define ERESTART_RESTARTBLOCK 516

static void reissue(struct user_regs_struct *registers)
{
    if ((long)registers->orig_rax < 0 || (long)registers->rax != -ERESTART_RESTARTBLOCK)
        return;
    registers->rax = (unsigned long)-ERESTARTNOINTR;
    if (registers->orig_rax == SYS_nanosleep && registers->rsi != 0)
        registers->rdi = registers->rsi;
    if (registers->orig_rax == SYS_clock_nanosleep && registers->r10 != 0)
        registers->rdx = registers->r10;
}
#endif

long ptrace(enum __ptrace_request request, ...)
{
    static long (*real)(enum __ptrace_request, ...);
    va_list arguments;
    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "ptrace");
    if (real == NULL) {
        errno = ENOSYS;
        return -1;
    }
    data = release_before(request, data);
    long result = real(request, pid, address, data);
#if defined(__x86_64__)
    struct iovec *area = data;
    /* A 32-bit task's registers are shorter; those are left as they are. */
    if (result == 0 && request == PTRACE_GETREGSET && (long)address == NT_PRSTATUS && area->iov_len >= sizeof(struct user_regs_struct))
        reissue(area->iov_base);
#endif
    return result;
}

/*
 * sscanf has three names in glibc, by the standard and the version that a program was compiled for: C23 from glibc 2.38 on, C99 from
 * 2.7 on, and its own. The headers give the plain name to one of the others: only an assembler name says which is meant.
 */
typedef int (*scanner)(const char *text, const char *format, va_list arguments);
int scan_c99(const char *text, const char *format, va_list arguments) __asm__("__isoc99_vsscanf");
int scan_plain(const char *text, const char *format, va_list arguments) __asm__("vsscanf");

/* What fdinfo of a timerfd says comes in this order: ticks, then it_value. CRIU reads both with sscanf. */
static int read_fdinfo(scanner scan, const char *text, const char *format, va_list arguments)
{
    static __thread unsigned long long ticks;
    va_list copy;
    va_copy(copy, arguments);
    int matched = scan(text, format, arguments);
    if (matched == 1 && strncmp(format, "ticks:", 6) == 0)
        ticks = *va_arg(copy, unsigned long long *);
    if (matched == 2 && strncmp(format, "it_value:", 9) == 0) {
        unsigned long long *seconds = va_arg(copy, unsigned long long *);
        unsigned long long *nanoseconds = va_arg(copy, unsigned long long *);
        if (ticks != 0 && *seconds == 0 && *nanoseconds == 0)
            *nanoseconds = 1;
    }
    va_end(copy);
    return matched;
}

int __isoc23_sscanf(const char *text, const char *format, ...);

int __isoc23_sscanf(const char *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int matched = read_fdinfo(vsscanf, text, format, arguments);
    va_end(arguments);
    return matched;
}

int sscanf_c99(const char *text, const char *format, ...) __asm__("__isoc99_sscanf");

int sscanf_c99(const char *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int matched = read_fdinfo(scan_c99, text, format, arguments);
    va_end(arguments);
    return matched;
}

int sscanf_plain(const char *text, const char *format, ...) __asm__("sscanf");

int sscanf_plain(const char *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int matched = read_fdinfo(scan_plain, text, format, arguments);
    va_end(arguments);
    return matched;
}
