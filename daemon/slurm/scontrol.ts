import { StintError, asStintError } from '../core/errors.ts'
import { isSlurmctldAbsent } from '../core/slurm-absence.ts'
import { shown } from '../core/text.ts'
import type { CommandRunner } from '../linux/command.ts'
import { parseJobJson } from './job-json.ts'
import { requireNumbers, type SlurmJob } from './job.ts'

/** A node of the cluster. */
export interface SlurmNode {
  readonly name: string
  /** NodeAddr: where to reach it. */
  readonly address: string
  /** Whether slurmctld hears from it. */
  readonly up: boolean
}

/** `2026-11-23T20:15:00` in the local zone, as scontrol prints it; undefined for Unknown, None, N/A. */
export function parseSlurmTime(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{4}-\d\d-\d\dT/.test(text)) return undefined
  const milliseconds = new Date(text).getTime()
  return Number.isNaN(milliseconds) ? undefined : milliseconds / 1000
}

/** Of an array, `show job` prints every task. */
function recordsOf(text: string, jobId: number): string[] {
  return text.split(/^(?=JobId=)/m).filter((record) => record.startsWith(`JobId=${jobId} `))
}

/**
 * What scontrol itself wrote about a job, without the user's texts: the name stands before it, command, directories and
 * comment after it, all of them unquoted.
 * @throws StintError E_SLURM when it is not there, or the user's texts look like it
 */
function ownFields(text: string, jobId: number): string {
  const records = recordsOf(text, jobId)
  const before = records.map((record) => record.split(/\s(?=Command=|WorkDir=)/, 1)[0] ?? '')
  const owners = before.flatMap((record) => [...record.matchAll(/\sUserId=\S*\(\d+\)\s+GroupId=/g)].map((match) => record.slice(match.index)))
  const [fields] = owners
  if (fields === undefined) throw new StintError('E_SLURM', `scontrol printed no job ${jobId}: ${text.slice(0, 200)}`)
  if (owners.length > 1) throw new StintError('E_SLURM', `the name of job ${jobId} looks like fields of scontrol`, { hint: 'Give the job another name.' })
  return fields
}

/** A host list; scontrol prints (null) for none. */
function listOf(text: string | undefined): string {
  return text === undefined || text === '(null)' ? '' : text
}

/** Stands at the very beginning, before every text of the user's. */
function nameOf(text: string, jobId: number): string {
  const task = /^JobId=\d+ ArrayJobId=(\d+) ArrayTaskId=(\d+) /.exec(recordsOf(text, jobId)[0] ?? '')
  return task === null ? String(jobId) : `${task[1] ?? ''}_${task[2] ?? ''}`
}

/**
 * Reads `scontrol show job -o ID` (a line of Key=Value words for each job), without AdminComment: that stands behind the user's texts.
 * @throws StintError E_SLURM when it is not told unmistakably
 */
export function parseJob(text: string, jobId: number): SlurmJob {
  const words = [...ownFields(text, jobId).matchAll(/\s([A-Za-z/:_]+)=(\S*)/g)].map((m) => [m[1] ?? '', m[2] ?? ''] as const)
  const fields = new Map(words.toReversed()) // The first of equals counts.
  return requireNumbers({
    jobId,
    name: nameOf(text, jobId),
    reason: fields.get('Reason') ?? '',
    state: fields.get('JobState') ?? 'UNKNOWN',
    uid: Number(/\((\d+)\)/.exec(fields.get('UserId') ?? '')?.[1]),
    requeue: fields.get('Requeue') === '1',
    restarts: Number(fields.get('Restarts') ?? 0),
    endTime: parseSlurmTime(fields.get('EndTime')),
    preemptTime: parseSlurmTime(fields.get('PreemptTime')),
    nodes: fields.get('NodeList') ?? '',
    batchHost: fields.get('BatchHost'),
    partition: fields.get('Partition') ?? '',
    requiredNodes: listOf(fields.get('ReqNodeList')),
    excludedNodes: listOf(fields.get('ExcNodeList')),
    adminComment: '',
  })
}

/**
 * Reads `scontrol show job -d -o ID`: nodes that were allocated, of which NodeList, while a job is COMPLETING, has those that are
 * still to be released. As host lists.
 * @throws StintError E_SLURM when it is not told unmistakably
 */
export function parsePlaces(text: string, jobId: number): { allocated: string; left: string } {
  const fields = ownFields(text, jobId)
  const allocated = [...fields.matchAll(/\sNodes=(\S+) CPU_IDs=/g)].map((match) => match[1] ?? '').join(',')
  return { allocated, left: listOf(/\sNodeList=(\S+)/.exec(fields)?.[1]) }
}

/** Reads `scontrol show nodes -o`. Of a state like `IDLE*+DRAIN` the star says that the node does not answer. */
export function parseNodes(text: string): SlurmNode[] {
  return text.split('\n').flatMap((line) => {
    const [, name] = /^NodeName=(\S+)/.exec(line) ?? []
    if (name === undefined) return []
    const field = (key: string): string | undefined => new RegExp(`\\s${key}=(\\S+)`).exec(line)?.[1]
    return [{ name, address: field('NodeAddr') ?? name, up: !/\*|DOWN|FUTURE|UNKNOWN|NOT_RESPONDING/.test(field('State') ?? 'UNKNOWN') }]
  })
}

/** Reads `scontrol show config`. */
export function parseConfig(text: string): ReadonlyMap<string, string> {
  return new Map(text.split('\n').flatMap((line) => {
    const match = /^(\S+)\s+= (.*)$/.exec(line)
    return match?.[1] === undefined || match[2] === undefined ? [] : [[match[1], match[2].trim()] as const]
  }))
}

/** Whether root's note may be in it: what looks like one may also be part of the job's name, command or directory. */
export function mayHaveAdminComment(text: string): boolean {
  return text.includes('AdminComment=')
}

/** Reads `squeue --Format=JobID:12,admin_comment:N`: nothing in it is the owner's. */
export function parseAdminComment(text: string, jobId: number): string {
  return new RegExp(`^${jobId}\\s+(\\S.*?)\\s*$`, 'm').exec(text)?.[1] ?? ''
}

/** Notes of root are cut to this by squeue. */
const longestNote = 1024

/** What scontrol says when it, or the installed plugins, cannot print JSON. */
const noJson = /unrecognized option|serializer|data_parser|plugin/i

/** scontrol itself tries for a minute and longer to reach a slurmctld that is away. */
const hurrySeconds = 3

export class Scontrol {
  readonly #commands: CommandRunner
  readonly #program: string
  readonly #squeue: string
  readonly #timeoutSeconds: number
  /** Whether scontrol prints JSON; undefined until it was tried. */
  #json: boolean | undefined
  readonly #addresses = new Map<string, string>()

  constructor(commands: CommandRunner, programs: { readonly scontrol: string; readonly squeue: string }, timeoutSeconds: number) {
    this.#commands = commands
    this.#program = programs.scontrol
    this.#squeue = programs.squeue
    this.#timeoutSeconds = timeoutSeconds
  }

  async #call(...args: string[]): Promise<string> {
    return this.#callWithin(this.#timeoutSeconds, ...args)
  }

  async #callWithin(timeoutSeconds: number, ...args: string[]): Promise<string> {
    return this.#run(timeoutSeconds, [this.#program, ...args])
  }

  async #run(timeoutSeconds: number, argv: readonly [string, ...string[]]): Promise<string> {
    try {
      // SLURM_TIME_FORMAT unset: the standard form that parseSlurmTime reads.
      return (await this.#commands.run(argv, { timeoutSeconds })).stdout
    } catch (cause) {
      throw new StintError('E_SLURM', asStintError(cause).message, { cause })
    }
  }

  /** By JSON; undefined where this Slurm has none, or it says nothing of the job: the text says why then. @throws StintError E_SLURM when slurmctld does not answer */
  async #jsonWithin(timeoutSeconds: number, jobId: number): Promise<SlurmJob | undefined> {
    if (this.#json === false) return undefined
    try {
      const job = parseJobJson(await this.#callWithin(timeoutSeconds, 'show', 'job', String(jobId), '--json'), jobId)
      this.#json = true
      return job
    } catch (error) {
      const { message } = asStintError(error)
      if (isSlurmctldAbsent(message)) throw error
      // @NOTE Anything else (a list too long, a refusal) is what the text is asked for.
      if (this.#json === undefined && (asStintError(error).details['printed'] !== undefined || noJson.test(message))) this.#json = false
      return undefined
    }
  }

  async #textWithin(timeoutSeconds: number, jobId: number): Promise<SlurmJob> {
    const text = await this.#callWithin(timeoutSeconds, 'show', 'job', '-o', String(jobId))
    const job = parseJob(text, jobId)
    if (!mayHaveAdminComment(text)) return job
    const notes = await this.#run(timeoutSeconds, [this.#squeue, '--noheader', `--jobs=${jobId}`, '--states=all', `--Format=JobID:12,admin_comment:${longestNote}`])
    return { ...job, adminComment: parseAdminComment(notes, jobId) }
  }

  async #jobWithin(timeoutSeconds: number, jobId: number): Promise<SlurmJob> {
    return (await this.#jsonWithin(timeoutSeconds, jobId)) ?? this.#textWithin(timeoutSeconds, jobId)
  }

  /** @throws StintError E_SLURM when slurmctld does not answer or does not know the job */
  async showJob(jobId: number): Promise<SlurmJob> {
    return this.#jobWithin(this.#timeoutSeconds, jobId)
  }

  /** The same for somebody in a hurry: undefined when slurmctld has not answered after a few seconds. @throws StintError E_SLURM for what it refuses */
  async showJobSoon(jobId: number): Promise<SlurmJob | undefined> {
    try {
      return await this.#jobWithin(hurrySeconds, jobId)
    } catch (error) {
      if (isSlurmctldAbsent(asStintError(error).message)) return undefined
      throw error
    }
  }

  /** The job, or undefined when slurmctld has forgotten it. @throws StintError E_SLURM when slurmctld does not answer */
  async findJob(jobId: number): Promise<SlurmJob | undefined> {
    try {
      return await this.showJob(jobId)
    } catch (error) {
      if (asStintError(error).message.includes('Invalid job id specified')) return undefined
      throw error
    }
  }

  /** By its id an order for an array's last task would go to the whole array. */
  async #nameOf(jobId: number): Promise<string> {
    return (await this.showJob(jobId)).name
  }

  /**
   * Puts a job back into the queue under its id; its processes are ended by Slurm.
   * @param how `requeuehold`: held until somebody releases it
   * @param which `incomplete`: only if nobody has ended it, which slurmctld looks at in the same step; it does not say when it was so
   */
  async requeue(jobId: number, how: 'requeue' | 'requeuehold', which: 'any' | 'incomplete'): Promise<void> {
    await this.#call(how, ...(which === 'any' ? [] : [which]), await this.#nameOf(jobId))
  }

  /** Notes something on a job where its owner sees and may change it: `scontrol show job`, `squeue -O Comment`. */
  async setComment(jobId: number, comment: string): Promise<void> {
    await this.#call('update', `jobid=${await this.#nameOf(jobId)}`, `comment=${shown(comment)}`)
  }

  /** Lets a held job go. */
  async release(jobId: number): Promise<void> {
    await this.#call('release', String(jobId))
  }

  /** Keeps a pending job off these nodes; replaces what was excluded before. */
  async excludeNodes(jobId: number, nodes: readonly string[]): Promise<void> {
    await this.#call('update', `jobid=${await this.#nameOf(jobId)}`, `excnodelist=${nodes.join(',')}`)
  }

  /** Starts a pending job on these nodes only; replaces what was asked for before. */
  async requireNodes(jobId: number, nodes: readonly string[]): Promise<void> {
    await this.#call('update', `jobid=${await this.#nameOf(jobId)}`, `nodelist=${nodes.join(',')}`)
  }

  /** Nodes of a partition. */
  async nodesOf(partition: string): Promise<string[]> {
    const text = await this.#call('show', 'partition', '-o', partition)
    return this.hostNames(listOf(/\sNodes=(\S*)/.exec(text)?.[1]))
  }

  /** What scontrol prints of a job for people, a field or a few on each line. */
  async showText(jobId: number): Promise<string> {
    return this.#call('show', 'job', String(jobId))
  }

  /** The text of a job's batch script. */
  async batchScript(jobId: number): Promise<string> {
    return this.#call('write', 'batch_script', String(jobId), '-')
  }

  /** Notes something on a job where only root can; it stays over requeues. */
  async setAdminComment(jobId: number, comment: string): Promise<void> {
    await this.#call('update', `jobid=${await this.#nameOf(jobId)}`, `admincomment=${shown(comment)}`)
  }

  /** A node's state with its flags, such as `IDLE+DRAIN`. @throws StintError E_SLURM */
  async nodeState(node: string): Promise<string> {
    return /\bState=(\S+)/.exec(await this.#call('show', 'node', '-o', node))?.[1] ?? 'UNKNOWN'
  }

  /** No job starts on the node any more; those that run go on. It stays so until somebody resumes it. */
  async drainNode(node: string, reason: string): Promise<void> {
    await this.#call('update', `nodename=${node}`, 'state=drain', `reason=${shown(reason)}`)
  }

  /** Names of a host list such as `n[1-3,7]`, in its order; none of an empty one. */
  async hostNames(list: string): Promise<string[]> {
    return list === '' ? [] : (await this.#call('show', 'hostnames', list)).split('\n').filter((name) => name !== '')
  }

  /** Where a node is reached (NodeAddr): remembered, since slurm.conf changes with a restart of everything. */
  async nodeAddress(node: string): Promise<string> {
    const known = this.#addresses.get(node)
    if (known !== undefined) return known
    const [found] = parseNodes(await this.#call('show', 'node', '-o', node))
    if (found === undefined) throw new StintError('E_SLURM', `scontrol does not tell the address of node ${node}`)
    this.#addresses.set(node, found.address)
    return found.address
  }

  /** These nodes, or all that slurmctld knows. */
  async showNodes(names: readonly string[] = []): Promise<SlurmNode[]> {
    return parseNodes(await this.#call('show', 'nodes', '-o', ...(names.length === 0 ? [] : [names.join(',')])))
  }

  /** Nodes of a job's allocation that Slurm has taken back already while it ends the job on the others. */
  async releasedNodes(jobId: number): Promise<string[]> {
    const { allocated, left } = parsePlaces(await this.#call('show', 'job', '-d', '-o', String(jobId)), jobId)
    const [all, still] = await Promise.all([this.hostNames(allocated), this.hostNames(left)])
    return all.filter((name) => !still.includes(name))
  }

  /** slurm.conf as slurmctld runs it. */
  async showConfig(): Promise<ReadonlyMap<string, string>> {
    return parseConfig(await this.#call('show', 'config'))
  }
}
