#define _GNU_SOURCE
#include "strict_mode.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#if defined(__x86_64__)

#define PAGE 4096
#define SYSCALL_INSTRUCTION 0x050f /* 0f 05 */
#define USER_64_CS 0x33
#define ERESTARTSYS 512
#define SYSCALL_STOP (SIGTRAP | 0x80)

/* What is written into the thread's page: the program and, behind it, its description. */
struct load {
    struct sock_filter code[9];
    struct sock_fprog program;
};

static void fill(struct load *load, unsigned long address)
{
    const struct load made = {
        .code = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 5),
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 4, 0),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 3, 0),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 2, 0),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 1, 0),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_THREAD),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        },
        .program = {.len = sizeof load->code / sizeof *load->code, .filter = (struct sock_filter *)(address + offsetof(struct load, code))},
    };
    *load = made;
}

bool strict_mode_stop(struct strict_mode *mode, pid_t thread, const struct seccomp_data *call)
{
    *mode = (struct strict_mode){.thread = thread, .number = (unsigned long)call->nr};
    if (call->arch != AUDIT_ARCH_X86_64)
        return false;
    /* Suspended while we trace it: filters of the thread's own need not allow what is done here. */
    return ptrace(PTRACE_SEIZE, thread, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP)) == 0 && ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) == 0;
}

/* Waits for the thread's next stop; false when it is not one of ours (it ended, or a signal came first, left in `signal`). */
static bool await_stop(pid_t thread, int *kind, int *signal)
{
    int status;
    *signal = 0;
    while (waitpid(thread, &status, __WALL) != thread)
        if (errno != EINTR)
            return false;
    if (!WIFSTOPPED(status))
        return false;
    *kind = status >> 8;
    if (*kind >> 8 == PTRACE_EVENT_STOP || *kind == SYSCALL_STOP)
        return true;
    *signal = WSTOPSIG(status);
    return false;
}

/* Lets the thread run to the next stop at a system call, its entry or its return. */
static bool run_to_call(pid_t thread)
{
    int kind, signal;
    do
        if (ptrace(PTRACE_SYSCALL, thread, NULL, NULL) != 0 || !await_stop(thread, &kind, &signal))
            return false;
    while (kind != SYSCALL_STOP);
    return true;
}

/* Makes a system call in the stopped thread, at the instruction by which it made its own. */
static bool call_there(pid_t thread, const struct user_regs_struct *saved, unsigned long number, const unsigned long arguments[6], long *result)
{
    struct user_regs_struct registers = *saved;
    registers.rip = saved->rip - 2;
    registers.rax = number;
    registers.orig_rax = (unsigned long)-1; /* no call to be made again */
    registers.rdi = arguments[0];
    registers.rsi = arguments[1];
    registers.rdx = arguments[2];
    registers.r10 = arguments[3];
    registers.r8 = arguments[4];
    registers.r9 = arguments[5];
    if (ptrace(PTRACE_SETREGS, thread, NULL, &registers) != 0 || !run_to_call(thread) || !run_to_call(thread) ||
        ptrace(PTRACE_GETREGS, thread, NULL, &registers) != 0)
        return false;
    *result = (long)registers.rax;
    return true;
}

static bool succeeds_there(pid_t thread, const struct user_regs_struct *saved, unsigned long number, const unsigned long arguments[6])
{
    long result;
    return call_there(thread, saved, number, arguments, &result) && result == 0;
}

/* In a page of its own: memory of the thread, its stack too, may be in use by others. */
static bool install(pid_t thread, const struct user_regs_struct *saved)
{
    long page = 0;
    struct load load;
    const unsigned long map[6] = {0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, (unsigned long)-1, 0};
    if (!call_there(thread, saved, SYS_mmap, map, &page) || (unsigned long)page >= -(unsigned long)PAGE)
        return false;
    fill(&load, (unsigned long)page);
    struct iovec here = {&load, sizeof load}, there = {(void *)page, sizeof load};
    const unsigned long lock[6] = {PR_SET_NO_NEW_PRIVS, 1}; /* A user may not filter without. Strict mode has no exec anyway. */
    const unsigned long enter[6] = {PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (unsigned long)page + offsetof(struct load, program)};
    const unsigned long unmap[6] = {(unsigned long)page, PAGE};
    bool installed = process_vm_writev(thread, &here, 1, &there, 1, 0) == sizeof load && succeeds_there(thread, saved, SYS_prctl, lock) &&
                     succeeds_there(thread, saved, SYS_prctl, enter);
    return succeeds_there(thread, saved, SYS_munmap, unmap) && installed;
}

/* With all signals blocked, so that none comes between. */
static bool install_undisturbed(pid_t thread, const struct user_regs_struct *saved)
{
    unsigned long long mask, all = ~0ULL;
    if (ptrace(PTRACE_GETSIGMASK, thread, (void *)sizeof mask, &mask) != 0 || ptrace(PTRACE_SETSIGMASK, thread, (void *)sizeof all, &all) != 0)
        return false;
    bool installed = install(thread, saved);
    return ptrace(PTRACE_SETSIGMASK, thread, (void *)sizeof mask, &mask) == 0 && installed;
}

bool strict_mode_enter(struct strict_mode *mode)
{
    struct user_regs_struct saved;
    int kind, signal;
    bool entered = false;
    if (await_stop(mode->thread, &kind, &signal) && ptrace(PTRACE_GETREGS, mode->thread, NULL, &saved) == 0) {
        long instruction = ptrace(PTRACE_PEEKTEXT, mode->thread, (void *)(saved.rip - 2), NULL);
        bool in_call = saved.orig_rax == mode->number && ((long)saved.rax == -ERESTARTSYS || (long)saved.rax == -EINVAL);
        if (in_call && saved.cs == USER_64_CS && (instruction & 0xffff) == SYSCALL_INSTRUCTION)
            entered = install_undisturbed(mode->thread, &saved);
        saved.orig_rax = (unsigned long)-1;
        saved.rax = entered ? 0 : (unsigned long)-EINVAL;
        entered = (!in_call || ptrace(PTRACE_SETREGS, mode->thread, NULL, &saved) == 0) && entered;
    }
    /* A signal that came first is delivered; the kernel makes the call again behind it. */
    (void)ptrace(PTRACE_DETACH, mode->thread, NULL, (void *)(long)signal);
    return entered;
}

#else

bool strict_mode_stop(struct strict_mode *mode, pid_t thread, const struct seccomp_data *call)
{
    *mode = (struct strict_mode){.thread = thread, .number = (unsigned long)call->nr};
    return false;
}

bool strict_mode_enter(struct strict_mode *mode)
{
    (void)mode;
    return false;
}

#endif
