/**
 * The capabilities CRIU holds, measured one by one with CRIU 4.2.1 on Linux 6.18: docs/reference/capabilities.md has the
 * table and the commands. Each comment says what fails without the line. CAP_CHECKPOINT_RESTORE is missing on purpose:
 * whatever it opens, SYS_ADMIN opens too, and nothing works without SYS_ADMIN.
 */

/** For `criu dump`, in the sandbox's namespaces, as inheritable and ambient capabilities. criu-shim.so gives up those that change ids at once. */
export const dumpCapabilities = [
  'sys_admin', // The payload's seccomp filter: "suspending seccomp failed". SysV objects: "Can't setns N/ipc".
  'net_admin', // Established TCP connections: "Can't turn TCP repair mode ON".
  'sys_ptrace', // CRIU's real id is not the user's: "Unable to interrupt task".
  'dac_read_search', // In force for open_by_handle_at alone, which inotify needs: "Can't dump that handle".
  'setuid', // The user's effective id, before CRIU begins: "CRIU could not take the user's file system identity".
  'setgid', // The same for the group.
] as const

/** For `criu restore`, run as root in the sandbox's namespaces. It gives each task the identity and rights of the image. */
export const restoreCapabilities = [
  'sys_admin', // IPC and time namespaces, seccomp filters, process ids: "Unable create a network namespace".
  'net_admin', // TCP repair, and CRIU's own probe of netlink and nftables: "-1 reported by netlink".
  'net_raw', // TCP connections that one side has closed: CRIU plays the other side's FIN: "libnet_open_raw4(): SOCK_RAW allocation failed".
  'sys_time', // The offset of the new time namespace: "Unable to set a monotonic clock offset".
  'setuid', // The tasks' user: "Unable to set real, effective and saved user ID"; CRIU then hangs when no_new_privs is set.
  'setgid', // The tasks' groups: "Unable to set real, effective and saved group ID"; as for setuid.
  'setpcap', // The tasks' securebits and bounding set: "Unable to set SECURE_NO_SETUID_FIXUP"; as for setuid.
  'kill', // What the job had stopped is the user's: CRIU says nothing when it may not stop it again; it runs on.
  'sys_chroot', // The tasks' root directory: "Can't change root".
  'sys_ptrace', // File leases, which leave the task undumpable while it is made: "Can't attach to N".
  'ipc_lock', // Locked memory above the daemon's own RLIMIT_MEMLOCK: "Restoring FAILED" without a reason.
  'sys_nice', // The nice value, when the daemon's is higher. CRIU says nothing; the job is slower ever after.
  'sys_resource', // Hard limits above the daemon's own. CRIU says nothing; the job has lower limits ever after.
] as const
