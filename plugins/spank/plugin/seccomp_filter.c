#define _GNU_SOURCE
#include "seccomp_filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Native and compatible architecture: numbers mean something else under any other, which is left alone. */
#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#define COMPAT_ARCH AUDIT_ARCH_I386
#define ABI_BIT 0x40000000U /* Set in the numbers of the x32 ABI, which has the same architecture. */
#define COMPAT_SOCKET 359
#define COMPAT_SECCOMP 354
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#define COMPAT_ARCH AUDIT_ARCH_ARM
#define ABI_BIT 0U
#define COMPAT_SOCKET 281
#define COMPAT_SECCOMP 383
#else
#error "add the audit architectures of this machine"
#endif
#define COMPAT_PRCTL 172

/* Numbers above 424 are one on all these architectures. C libraries older than the calls have no names for them. */
#define LANDLOCK_CREATE_RULESET 444
#define LANDLOCK_RESTRICT_SELF 446
#define LANDLOCK_CREATE_RULESET_VERSION 1
#define LANDLOCK_CREATE_RULESET_ERRATA 2
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define ARGUMENTS_MAX 3
#define FILTER_MAX 256

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LOW_WORD 0
#else
#define LOW_WORD 4
#endif

/* A call whose given arguments have these values, in their lower 32 bits: the kernel takes them for int. */
struct rule {
    unsigned number, compat_number;
    struct {
        unsigned index, value;
    } argument[ARGUMENTS_MAX];
    unsigned arguments;
    unsigned action;
};

static const struct rule rules[] = {
    {SYS_io_uring_setup, SYS_io_uring_setup, {{0, 0}}, 0, SECCOMP_RET_ERRNO | ENOSYS},
    /* As a kernel built without MPTCP says. In other families 262 is something else. */
    {SYS_socket, COMPAT_SOCKET, {{0, AF_INET}, {2, IPPROTO_MPTCP}}, 2, SECCOMP_RET_ERRNO | EPROTONOSUPPORT},
    {SYS_socket, COMPAT_SOCKET, {{0, AF_INET6}, {2, IPPROTO_MPTCP}}, 2, SECCOMP_RET_ERRNO | EPROTONOSUPPORT},
    /* As a kernel started without Landlock says. A program that does not ask insists, and gets it. */
    {LANDLOCK_CREATE_RULESET, LANDLOCK_CREATE_RULESET, {{2, LANDLOCK_CREATE_RULESET_VERSION}}, 1, SECCOMP_RET_ERRNO | EOPNOTSUPP},
    {LANDLOCK_CREATE_RULESET, LANDLOCK_CREATE_RULESET, {{2, LANDLOCK_CREATE_RULESET_ERRATA}}, 1, SECCOMP_RET_ERRNO | EOPNOTSUPP},
    {LANDLOCK_RESTRICT_SELF, LANDLOCK_RESTRICT_SELF, {{0, 0}}, 0, SECCOMP_RET_USER_NOTIF},
    {SYS_prctl, COMPAT_PRCTL, {{0, PR_SET_SECCOMP}, {1, SECCOMP_MODE_STRICT}}, 2, SECCOMP_RET_USER_NOTIF},
    {SYS_seccomp, COMPAT_SECCOMP, {{0, SECCOMP_SET_MODE_STRICT}, {1, 0}, {2, 0}}, 3, SECCOMP_RET_USER_NOTIF},
};

struct program {
    struct sock_filter code[FILTER_MAX];
    unsigned short length;
};

static void add(struct program *program, struct sock_filter instruction)
{
    if (program->length < FILTER_MAX)
        program->code[program->length++] = instruction;
}

static void load(struct program *program, unsigned offset)
{
    add(program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
}

static void add_rule(struct program *program, const struct rule *rule, bool compat)
{
    /* What is left of the rule behind the first comparison, to be passed over when that fails. */
    unsigned char rest = (unsigned char)(2 * rule->arguments + 1);
    load(program, offsetof(struct seccomp_data, nr));
    if (!compat && ABI_BIT != 0) {
        add(program, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~ABI_BIT));
    }
    add(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, compat ? rule->compat_number : rule->number, 0, rest));
    for (unsigned i = 0; i < rule->arguments; i++) {
        rest -= 2;
        load(program, (unsigned)offsetof(struct seccomp_data, args) + 8 * rule->argument[i].index + LOW_WORD);
        add(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, rule->argument[i].value, 0, rest));
    }
    add(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, rule->action));
}

static void add_rules(struct program *program, bool compat)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        add_rule(program, &rules[i], compat);
    add(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
}

/* False when it is longer than the largest filter that is provided for. */
static bool build(struct program *program)
{
    program->length = 0;
    load(program, offsetof(struct seccomp_data, arch));
    add(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 0, 0));
    add_rules(program, false);
    unsigned native = program->length - 2U;
    if (native > 255)
        return false;
    program->code[1].jf = (unsigned char)native;
    add(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, COMPAT_ARCH, 1, 0));
    add(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    add_rules(program, true);
    return program->length < FILTER_MAX;
}

bool seccomp_filter_install(int *listener)
{
    struct program program;
    *listener = -1;
    if (!build(&program))
        return false;
    struct sock_fprog filter = {.len = program.length, .filter = program.code};
    long got = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
    if (got >= 0) {
        *listener = (int)got;
        return true;
    }
    /* A kernel older than 5.0, or a slurmd in a container whose own filter has a listener: there can be only one. */
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0;
}
