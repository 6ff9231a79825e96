import { hostname } from 'node:os'

/** The name that slurmd takes for this node when it is given none: the host name up to its first dot (slurm.conf(5), NodeName). */
export function nodeName(host = hostname()): string {
  return host.replace(/\..*/, '')
}
