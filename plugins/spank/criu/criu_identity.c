/*
 * LD_PRELOAD for criu, part of criu-shim.so: every path is looked up as the job's user.
 *
 * CRIU opens, makes and binds what the payload had by its path, and the user may have put something else there. So its file system
 * ids are the user's (setfsuid), and it has no capability that passes over modes and owners: the kernel decides as it would for the
 * user. Real and saved ids stay root's, so that the user can neither signal nor trace CRIU. The effective ids are the user's in a dump,
 * root's in a restore, which writes the sysctls of the IPC namespace.
 *
 * STINT_ACT_AS is dump:UID:GID or restore:UID:GID. setpriv has set the supplementary groups and SECBIT_NOROOT, by which this knows the
 * last program of the command line, and SECBIT_NO_SETUID_FIXUP, by which capabilities stay when ids change. stint-barrier refuses to go
 * on when none of this is in force (barrier.c).
 */
#define _GNU_SOURCE
#include "criu_identity.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEEP ((unsigned)-1)
#define BIT(capability) (1u << (capability))

typedef struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

static bool set, effective;
static unsigned uid, gid;
static sets usual; /* of capabilities, while nothing else is asked for */

/* The system calls, not libc's functions: these would ask all threads to follow, and a forked CRIU has but one. */
static bool set_effective(unsigned new_uid, unsigned new_gid)
{
    return syscall(SYS_setresgid, KEEP, new_gid, KEEP) == 0 && syscall(SYS_setresuid, KEEP, new_uid, KEEP) == 0;
}

/* setfsuid returns the id before, also when it fails: asked again with an id that cannot be, it tells the one in force. */
static bool set_file_system(unsigned new_uid, unsigned new_gid)
{
    (void)syscall(SYS_setfsgid, new_gid);
    (void)syscall(SYS_setfsuid, new_uid);
    return (unsigned)syscall(SYS_setfsgid, KEEP) == new_gid && (unsigned)syscall(SYS_setfsuid, KEEP) == new_uid;
}

static bool set_capabilities(const sets wanted)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capset, &header, wanted) == 0;
}

/* The rest of CRIU's work with ids other than were asked for must not be. */
static void require(bool good)
{
    if (good)
        return;
    static const char text[] = "stint: CRIU could not take the user's file system identity\n";
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    abort();
}

/* What only this file needs goes for good; what one call needs waits among the permitted. */
static bool narrow_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    if (syscall(SYS_capget, &header, usual) != 0)
        return false;
    if (effective) {
        unsigned ids = BIT(CAP_SETUID) | BIT(CAP_SETGID);
        usual[0].permitted &= ~ids;
        usual[0].inheritable &= ~ids;
    }
    usual[0].effective = usual[0].permitted & ~BIT(CAP_DAC_READ_SEARCH);
    return set_capabilities(usual);
}

__attribute__((constructor)) static void take_identity(void)
{
    char verb[8];
    const char *wanted = getenv("STINT_ACT_AS");
    int securebits = prctl(PR_GET_SECUREBITS);
    if (wanted == NULL || securebits < 0 || (securebits & SECBIT_NOROOT) == 0 || strncmp(program_invocation_short_name, "criu", 4) != 0)
        return;
    require(sscanf(wanted, "%7[a-z]:%u:%u", verb, &uid, &gid) == 3 && uid != 0);
    effective = strcmp(verb, "dump") == 0;
    require(!effective || set_effective(uid, gid));
    require(set_file_system(uid, gid) && narrow_capabilities());
    set = true;
}

bool identity_is_set(void)
{
    return set;
}

bool identity_is_dump(void)
{
    return set && effective;
}

unsigned identity_user(void)
{
    return uid;
}

static bool take_capabilities(unsigned first, unsigned second)
{
    sets wanted;
    memcpy(wanted, usual, sizeof wanted);
    wanted[0].effective = first;
    wanted[1].effective = second;
    return set_capabilities(wanted);
}

static bool enter(enum identity identity)
{
    switch (identity) {
    case ROOT:
        return set_file_system(0, 0);
    case OWNER:
        return effective || set_effective(uid, gid);
    case PAYLOAD:
        return take_capabilities(0, 0);
    case FINDER:
        return take_capabilities(usual[0].effective | (usual[0].permitted & BIT(CAP_DAC_READ_SEARCH)), usual[1].effective);
    }
    return false;
}

static bool leave(enum identity identity)
{
    switch (identity) {
    case ROOT:
        return set_file_system(uid, gid);
    case OWNER:
        return effective || (set_effective(0, 0) && set_file_system(uid, gid));
    case PAYLOAD:
    case FINDER:
        return set_capabilities(usual);
    }
    return false;
}

void identity_enter(enum identity identity)
{
    int error = errno;
    if (set)
        require(enter(identity));
    errno = error;
}

void identity_leave(enum identity identity)
{
    int error = errno;
    if (set)
        require(leave(identity));
    errno = error;
}

/*
 * CRIU takes other ids for a moment (those of who gets a descriptor's signals), and the kernel lets the file system ids follow the
 * effective ones: afterwards they are the user's again.
 */
static int keep_file_system(long result)
{
    int error = errno;
    require(!set || set_file_system(uid, gid));
    errno = error;
    return (int)result;
}

int setresuid(uid_t real, uid_t effective_id, uid_t saved)
{
    return keep_file_system(syscall(SYS_setresuid, real, effective_id, saved));
}

int setresgid(gid_t real, gid_t effective_id, gid_t saved)
{
    return keep_file_system(syscall(SYS_setresgid, real, effective_id, saved));
}

bool identity_before_exec(void)
{
    return !set || (syscall(SYS_setresgid, 0, 0, 0) == 0 && syscall(SYS_setresuid, 0, 0, 0) == 0);
}
