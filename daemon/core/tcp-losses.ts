import type { Obstacle, ObservedProcess } from './obstacles.ts'

/** What of TCP connections would be lost with a save that ends the job, or keep its image from being restored. */

export interface UnsentConnection {
  /** '0': nobody has it open any more, the kernel sends what is left. */
  readonly inode: string
  readonly remoteAddress: string
  readonly remotePort: number
  readonly unsentBytes: number
}

/** A line of `stint-init sockets`. PIDs as the sandbox counts. */
export interface SocketFinding {
  readonly pid: number
  readonly fd: number
  readonly what: 'urgent' | 'error'
}

/** @param text output of `stint-init sockets` */
export function parseFindings(text: string): SocketFinding[] {
  return text.split('\n').flatMap((line) => {
    const match = /^(\d+) (\d+) (urgent|error)$/.exec(line)
    return match === null ? [] : [{ pid: Number(match[1]), fd: Number(match[2]), what: match[3] as SocketFinding['what'] }]
  })
}

const readMore = 'It passes when the other side reads. Save again then.'

/**
 * Closed connections with data on the way are the kernel's alone and not saved; they live on in the node's own network. To the
 * outside they end with the sandbox, as at the end of any job: no reason to lose the job, see outsideNotes.
 * Open ones are saved with all their data. In the node's own network they cannot be silenced while they are restored, and one that has
 * more to send than its peer takes would be reset by a peer that is not there yet.
 */
export function unsentObstacles(connections: readonly UnsentConnection[], processes: readonly ObservedProcess[], net: 'private' | 'host', isInside: (address: string) => boolean): Obstacle[] {
  const owners = new Map(processes.flatMap((p) => p.sockets.map((inode) => [inode, p] as const)))
  return connections.filter(({ unsentBytes }) => unsentBytes > 0).flatMap(({ inode, remoteAddress, remotePort, unsentBytes }): Obstacle[] => {
    const peer = `${remoteAddress}:${remotePort}`
    const owner = owners.get(inode)
    if (net === 'private' && inode === '0' && isInside(remoteAddress)) {
      return [{ kind: 'unsent-data', message: `${unsentBytes} bytes of a connection to ${peer} that its process has closed are still on their way and would be lost`, remedy: readMore }]
    }
    if (net === 'host' && owner !== undefined) {
      return [{ kind: 'unsent-data', message: `${owner.comm} (PID ${owner.pid} in the sandbox) has ${unsentBytes} bytes for ${peer} that could not be restored in the node's own network`, remedy: `${readMore} Or submit without net=host.` }]
    }
    return []
  })
}

/** What the owner is told of data for the outside that did not arrive in time. */
export function outsideNotes(connections: readonly UnsentConnection[], net: 'private' | 'host', isInside: (address: string) => boolean): string[] {
  if (net === 'host') return []
  return connections.filter(({ inode, unsentBytes, remoteAddress }) => inode === '0' && unsentBytes > 0 && !isInside(remoteAddress)).map(({ remoteAddress, remotePort, unsentBytes }) => (
    `${unsentBytes} bytes of a connection to ${remoteAddress}:${remotePort} that its process has closed had not arrived when the job was saved; they are lost if the job ends here`
  ))
}

/** An urgent byte stops CRIU's reading of the queue, or is lost without a word. */
export function urgentObstacles(findings: readonly SocketFinding[], processes: readonly ObservedProcess[]): Obstacle[] {
  return findings.filter(({ what }) => what === 'urgent').map(({ pid, fd }) => ({
    kind: 'urgent-data', message: `${processes.find((p) => p.pid === pid)?.comm ?? 'a process'} (PID ${pid} in the sandbox) has urgent data on its connection ${fd} that it has not read`,
    remedy: 'Save again when the program has read it (MSG_OOB).',
  }))
}

/** What the owner is told of errors that a save turns into an end of file: no reason to lose the job, but no secret either. */
export function errorNotes(findings: readonly SocketFinding[], processes: readonly ObservedProcess[]): string[] {
  return findings.filter(({ what }) => what === 'error').map(({ pid, fd }) => (
    `the connection ${fd} of ${processes.find((p) => p.pid === pid)?.comm ?? 'a process'} (PID ${pid} in the sandbox) has failed, and the program does not know yet: continued from this checkpoint it reads an end of file where it would have got the error (ECONNRESET or the like)`
  ))
}
