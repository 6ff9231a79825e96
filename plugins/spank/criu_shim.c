/*
 * LD_PRELOAD for criu: re-issues interrupted system calls.
 *
 * A task stopped in poll, nanosleep, clock_nanosleep or a futex wait with timeout shows ax = -ERESTART_RESTARTBLOCK
 * (-516), which CRIU turns into -EINTR, in the image and in a task left running; many programs die of that. Shown as
 * -ERESTARTNOINTR (-513) instead, CRIU issues the call again with its own arguments. nanosleep and clock_nanosleep
 * then get the time left, which the kernel stored at `rem`. Proper place: compel/arch/x86/src/lib/infect.c of CRIU;
 * this can go when CRIU handles -516 there. x86-64 only; on other machines it changes nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>

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
    long result = real(request, pid, address, data);
#if defined(__x86_64__)
    struct iovec *area = data;
    /* A 32-bit task's registers are shorter; those are left as they are. */
    if (result == 0 && request == PTRACE_GETREGSET && (long)address == NT_PRSTATUS && area->iov_len >= sizeof(struct user_regs_struct))
        reissue(area->iov_base);
#endif
    return result;
}
