import { constants, readFileSync, readlinkSync, statSync } from 'node:fs'
import { carriedTrees } from '../core/file-places.ts'
import { StintError } from '../core/errors.ts'
import { numberWord, word, type Message } from '../core/wire.ts'
import { cgroupPlaces, isInStep, trackingPlace } from '../linux/cgroups.ts'
import { isJobsOwn, mountsOf } from '../linux/mounts.ts'
import { HeldProcess, ownProcess, type ProcessPlace } from '../linux/held-process.ts'
import type { GuardLink } from './monitor-connection.ts'

/** A task process that asks for a sandbox, as the kernel confirms it. */
export interface Claim {
  readonly jobId: number
  readonly step: string
  /** Held by the connection. */
  readonly task: HeldProcess
  readonly startTime: number
  /** What it says of itself; whoever opens it compares these with what is known of the job. */
  readonly uid: number
  readonly gid: number
  /** Of the trees that travel with every image, those that Slurm has made for this job already. */
  readonly keep: readonly string[]
  /** Output files that a requeue will truncate: not opened for appending. */
  readonly truncated: readonly string[]
  readonly payloadPlace: ReturnType<typeof trackingPlace>
}

/** Standard output and error as slurmstepd opened them: regular files without O_APPEND. */
function truncatedOutputs({ proc }: ProcessPlace): string[] {
  const paths = [1, 2].flatMap((fd) => {
    const flags = parseInt(/^flags:\s+(\d+)/m.exec(readFileSync(`${proc}/fdinfo/${fd}`, 'utf8'))?.[1] ?? '0', 8)
    const isFile = statSync(`${proc}/fd/${fd}`).isFile()
    return isFile && (flags & constants.O_APPEND) === 0 ? [readlinkSync(`${proc}/fd/${fd}`)] : []
  })
  return [...new Set(paths)]
}

/** What the sandbox need not make: the task is in Slurm's own mount namespace of the job by now, where there is one. */
function jobsOwnTrees(task: ProcessPlace, jobId: number): string[] {
  const [ofTask, ofNode] = [mountsOf(task), mountsOf(ownProcess)]
  return carriedTrees.filter((tree) => isJobsOwn(tree, jobId, ofTask, ofNode))
}

/**
 * Checks by /proc and cgroups that the caller is a task of the step it names.
 * @throws StintError E_NOT_VERIFIED, E_BAD_REQUEST
 */
export function verifyClaim(link: GuardLink, message: Message): Claim {
  const need = (key: string): number => {
    const value = numberWord(message, key)
    if (value === undefined) throw new StintError('E_BAD_REQUEST', `"open" lacks ${key}`)
    return value
  }
  const [jobId, pid, step] = [need('job'), need('pid'), word(message, 'step') ?? '']
  const task = link.process
  const stat = task.stat()
  const places = cgroupPlaces(task)
  if (link.peer.uid !== 0 || task.pid !== pid || stat === undefined || places === undefined || !isInStep(places, jobId, step)) {
    throw new StintError('E_NOT_VERIFIED', `process ${pid} is not a task of step ${jobId}.${step}`)
  }
  return {
    jobId, step, task, startTime: stat.startTime, uid: need('uid'), gid: need('gid'), keep: jobsOwnTrees(task, jobId), truncated: truncatedOutputs(task), payloadPlace: trackingPlace(places),
  }
}

/** Holds the process that the plugin cloned, once it is what it should be. @throws StintError E_NOT_VERIFIED */
export function verifyPid1({ task }: Claim, message: Message): HeldProcess {
  const pid1 = HeldProcess.open(numberWord(message, 'pid') ?? 0)
  // The number of its parent says something as long as the parent lives.
  if (pid1.stat()?.parent === task.pid && task.isAlive && !pid1.isNodes('pid') && !pid1.isNodes('mnt')) return pid1
  pid1[Symbol.dispose]()
  throw new StintError('E_NOT_VERIFIED', `process ${pid1.pid} is no PID 1 made by the task`)
}
