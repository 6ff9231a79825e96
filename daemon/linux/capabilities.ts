import { readFileSync } from 'node:fs'

/** Names by bit, as linux/capability.h numbers them. */
const names = [
  'chown', 'dac_override', 'dac_read_search', 'fowner', 'fsetid', 'kill', 'setgid', 'setuid', 'setpcap', 'linux_immutable', 'net_bind_service', 'net_broadcast',
  'net_admin', 'net_raw', 'ipc_lock', 'ipc_owner', 'sys_module', 'sys_rawio', 'sys_chroot', 'sys_ptrace', 'sys_pacct', 'sys_admin', 'sys_boot', 'sys_nice',
  'sys_resource', 'sys_time', 'sys_tty_config', 'mknod', 'lease', 'audit_write', 'audit_control', 'setfcap', 'mac_override', 'mac_admin', 'syslog', 'wake_alarm',
  'block_suspend', 'audit_read', 'perfmon', 'bpf', 'checkpoint_restore',
] as const

/** Reads a mask such as `000001fffeffffff` of /proc/PID/status. */
export function parseCapabilities(mask: string): ReadonlySet<string> {
  const bits = BigInt(`0x${mask}`)
  return new Set(names.filter((_, bit) => (bits >> BigInt(bit)) & 1n))
}

/** What this process may pass on: machines differ, containers often lack CAP_SYS_RESOURCE. */
export function ownCapabilities(): ReadonlySet<string> {
  const mask = /^CapPrm:\s+([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  return parseCapabilities(mask ?? '0')
}
