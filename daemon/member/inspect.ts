import { statSync } from 'node:fs'
import { connectionObstacles, insideTree, landlockObstacles, leaseObstacles, processObstacles, type Obstacle } from '../core/obstacles.ts'
import { isBelowAny, carriedTrees, placeOf } from '../core/file-places.ts'
import type { Objects } from '../core/deadline.ts'
import { LookBudget } from '../core/looks.ts'
import { landlocked } from '../linux/landlock.ts'
import { mountOfPath, mountsOf } from '../linux/mounts.ts'
import { payloadProcesses, type OpenFile, type PayloadProcess } from '../linux/payload.ts'
import { unlessGone } from '../linux/processes.ts'
import { connectionsOf, isLoopback } from '../linux/tcp.ts'
import { type LookContext, type Looked, rootPid } from '../context.ts'
import { fileRules } from '../images/locality.ts'

/** What a payload consists of. For helper processes (look-helper.ts) alone: all of it is as large as the user makes it. */

/** @param copies files that are put on record because they are open for writing */
export function countObjects(sandbox: Looked, processes: readonly PayloadProcess[], copies: number): Objects {
  const payload = insideTree(processes, rootPid)
  const sum = (count: (process: PayloadProcess) => number): number => payload.reduce((total, process) => total + count(process), 0)
  return {
    processes: payload.length, copies, connections: connectionsOf(sandbox.pid1).length,
    threads: sum((process) => process.threads), mappings: sum((process) => process.mappings),
    files: sum((process) => process.files.filter((file) => file.fd !== undefined).length + process.sockets.length + process.anonymous.length),
  }
}

/** The job script travels with the image. */
export function scriptBytes(sandbox: Looked): number {
  return sandbox.run.script === '' ? 0 : unlessGone(() => statSync(`${sandbox.pid1.proc}/root${sandbox.run.script}`))?.size ?? 0
}

/** Sorts the payload's open files into those that need nothing, those that are carried, and obstacles. */
function judgeFiles(context: LookContext, sandbox: Looked, processes: readonly PayloadProcess[]): { carried: string[]; carriedBytes: number; obstacles: Obstacle[] } {
  const rules = fileRules(context)
  const mounts = mountsOf(sandbox.pid1)
  const obstacles: Obstacle[] = []
  const carried = new Map<string, OpenFile>()
  // Slurm truncates these when the job starts again; their content comes back from the image.
  const truncated = new Set(JSON.parse(sandbox.run.outputs) as string[])
  for (const file of processes.flatMap((p) => p.files)) {
    const own = mounts.find((m) => m.id === file.mountId)
    // On no mount of the sandbox: its path means another file here, and is a blocker of its own.
    if (file.mountId !== undefined && own === undefined) continue
    const mount = own ?? mountOfPath(mounts, file.path)
    if (file.kind === 'character-device' && !/^\/dev\/(null|zero|full|random|urandom|tty|ptmx|pts\/ptmx|pts\/\d+)$/.test(file.path)) {
      obstacles.push({ kind: 'device', message: `the device ${file.path} is open (PID ${file.pid})`, remedy: 'CRIU cannot save devices; for MPI choose TCP and shared memory (UCX_TLS=tcp,self,sysv,posix, FI_PROVIDER=tcp).' })
      continue
    }
    if (truncated.has(file.path) && !file.deleted) {
      carried.set(file.path, file)
      continue
    }
    if (file.path === sandbox.run.script || placeOf(file.path, mount?.type, file.writable, rules) !== 'local') continue
    // A deleted file's content is in the image already (CRIU's ghost files).
    if (file.deleted || file.kind === 'block-device') continue
    if (file.path.includes('\uFFFD')) obstacles.push({ kind: 'node-local-file', message: `${file.path} is open (PID ${file.pid}), exists on ${context.node} only, and its name is no UTF-8 text`, remedy: 'Give the file another name, or keep it on the shared file system.' })
    else if (file.uid === sandbox.run.uid) carried.set(file.path, file)
    else obstacles.push({ kind: 'node-local-file', message: `${file.path} is open (PID ${file.pid}) and exists on ${context.node} only`, remedy: 'Keep the job\'s files on the shared file system, or ask your admin to list the directory under files.shared_paths.' })
  }
  const isPacked = (path: string): boolean => carried.has(path) || isBelowAny(path, carriedTrees)
  obstacles.push(...leaseObstacles(processes.flatMap((p) => p.files), isPacked))
  const carriedBytes = [...carried.values()].reduce((sum, file) => sum + (file.kind === 'file' ? file.bytes : 0), 0)
  if (carriedBytes > context.config.files.carry_limit_mb * 1e6) {
    obstacles.push({ kind: 'carry-limit', message: `open files that must travel with the image hold ${Math.round(carriedBytes / 1e6)} MB, more than files.carry_limit_mb`, remedy: 'Keep large files on the shared file system.' })
  }
  return { carried: [...carried.keys()], carriedBytes, obstacles }
}

/** What the payload consists of now: everything CRIU would lose in silence, and the files that must travel with the image. */
export function inspect(context: LookContext, sandbox: Looked): { processes: PayloadProcess[]; obstacles: Obstacle[]; carried: string[]; carriedBytes: number } {
  const processes = payloadProcesses(sandbox.pid1, new LookBudget(context.config.checkpoint.look_limit))
  const own = sandbox.pid1.namespace('user') ?? ''
  const inside = (address: string): boolean => isLoopback(address) || address === sandbox.run.address
  const files = judgeFiles(context, sandbox, insideTree(processes, rootPid))
  const obstacles = [
    ...processObstacles(processes, rootPid, own),
    ...landlockObstacles(landlocked(sandbox.pid1)),
    ...connectionObstacles(connectionsOf(sandbox.pid1), processes, sandbox.options.net, inside),
    ...files.obstacles,
  ]
  return { processes, obstacles, carried: files.carried, carriedBytes: files.carriedBytes }
}
