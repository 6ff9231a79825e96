import { parseCapabilities } from '../../daemon/linux/capabilities.ts'
import { on, tryOn, until } from './cluster.ts'

/** What tests look at on the booted machine (tests/vm), where n1 and n2 are one kernel with cgroup v2. */

/** The unified hierarchy's directory of the service. */
export const daemonCgroup = '/sys/fs/cgroup/system.slice/stintd.service'

/** The cgroup that slurmd on a node makes for a job. */
export function jobCgroup(node: string, job: number): string {
  return `/sys/fs/cgroup/system.slice/${node}_slurmstepd.scope/job_${job}`
}

/** Paths of the cgroups, each once, that processes of a user are in. */
export async function cgroupsOf(user: string): Promise<string[]> {
  return (await on('ctl', `for pid in $(pgrep -u ${user}); do cat /proc/$pid/cgroup; done 2>/dev/null | sort -u`)).split('\n').filter((line) => line !== '').map((line) => `/sys/fs/cgroup${line.replace(/^0::/, '')}`)
}

/** The daemon and its helpers, and the shell and the `ip` that wait for the next sandbox (daemon/linux/network.ts). */
const daemonPrograms = ['/opt/stint/node_modules/node/bin/node', '/usr/bin/dash', '/usr/bin/ip'].join('\n')

/** Waits until the daemon's cgroup has what is the daemon's alone: programs that it runs come and go, nothing of a job may stay. */
export async function untilDaemonAlone(): Promise<void> {
  await until("the daemon's cgroup has the daemon alone", 15, async () => (await on('ctl', `for pid in $(cat ${daemonCgroup}/cgroup.procs); do readlink /proc/$pid/exe; done | sort -u || true`)) === daemonPrograms)
}

/** A figure of memory.stat, bytes. */
export async function memoryStat(cgroup: string, field: string): Promise<number> {
  return Number(await on('ctl', `awk '$1 == "${field}" { print $2 }' ${cgroup}/memory.stat`))
}

/** A process as /proc/PID/status and /proc/PID/cgroup show it. */
export interface Sighting {
  readonly pid: number
  readonly uid: number
  /** The effective ones. */
  readonly capabilities: ReadonlySet<string>
  readonly cgroup: string
}

/**
 * Waits for the CRIU that dumps or restores a job, stops it in mid-work with SIGSTOP and looks at it; `resume` lets it go on.
 * @param trigger a shell command that leads to it; it runs beside, and its output is lost
 */
export async function stopCriu(job: number, trigger: string): Promise<Sighting & { resume: () => Promise<void> }> {
  const text = await on('ctl', `
    (${trigger}) >/dev/null 2>&1 </dev/null &
    for _ in $(seq 3000); do pid=$(pgrep -o -f '^/usr/sbin/criu (dump|restore) .*--images-dir /shared/stint/${job}/') && break; sleep 0.1; done
    kill -STOP "$pid" && echo "$pid" && awk '/^Uid|^CapEff/ { print $2 }' /proc/$pid/status && cat /proc/$pid/cgroup`)
  const [pid = '', uid, bits = '0', cgroup = ''] = text.split('\n')
  return {
    pid: Number(pid), uid: Number(uid), capabilities: parseCapabilities(bits), cgroup: `/sys/fs/cgroup${cgroup.replace(/^0::/, '')}`,
    resume: async () => { await tryOn('ctl', `kill -CONT ${pid}`) },
  }
}
