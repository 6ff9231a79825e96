import { StintError } from '../../daemon/core/errors.ts'
import type { SlurmJob } from '../../daemon/slurm/job.ts'
import type { Scontrol } from '../../daemon/slurm/scontrol.ts'
import type { Daemon } from './daemon.ts'
import type { World } from './world.ts'

/** Until slurmd has ended the processes of a stint that is requeued or cancelled, milliseconds. */
const killMs = 5000

/** slurmctld and the slurmds, for one job. */
export class Slurm {
  readonly #world: World
  state = 'RUNNING'
  restarts = 0
  isHeld = false
  /** Milliseconds since 1970. */
  endTime: number | undefined
  adminComment = ''
  comment = ''
  excluded: string[] = []
  /** Why the job is held, or ended; for the rules. */
  reason = 'None'

  constructor(world: World) {
    this.#world = world
  }

  get job(): SlurmJob {
    const { jobId, uid } = this.#world
    return {
      jobId, name: String(jobId), state: this.state, reason: this.reason, uid, requeue: true, restarts: this.restarts, endTime: this.endTime === undefined ? undefined : this.endTime / 1000, preemptTime: undefined,
      nodes: this.#world.machines.map(({ node }) => node).join(','), batchHost: 'n1', partition: 'all', requiredNodes: '', excludedNodes: this.excluded.join(','), adminComment: this.adminComment,
    }
  }

  /** As `scontrol requeue`: the stint's processes are ended, the job waits in the queue. */
  requeue(which: 'any' | 'incomplete', by: string, isHeld = false): void {
    const { sim } = this.#world
    if (which === 'incomplete' && this.state !== 'RUNNING') return
    if (this.state === 'PENDING') throw new StintError('E_SLURM', 'Job is already pending')
    sim.note(`slurm: requeued by ${by}${isHeld ? ', held' : ''}`)
    this.#world.rules.requeued(by, isHeld)
    this.state = 'PENDING'
    this.restarts++
    this.isHeld = isHeld
    this.#endSteps('requeued')
  }

  cancel(): void {
    if (this.state !== 'RUNNING') return
    this.#world.sim.note('slurm: cancelled')
    this.state = 'CANCELLED'
    this.#endSteps('cancelled')
  }

  /** The batch step has ended and nobody has requeued the job. */
  batchEnded(): void {
    if (this.state === 'RUNNING') {
      this.state = 'COMPLETED'
      this.#world.sim.note('slurm: completed')
      this.#world.rules.completed()
      this.#endSteps('completed')
    }
  }

  /** The limit of the job. */
  timeout(): void {
    if (this.state !== 'RUNNING') return
    this.#world.sim.note('slurm: time limit')
    this.state = 'TIMEOUT'
    this.reason = 'TimeLimit'
    this.#endSteps('over its limit')
  }

  #endSteps(why: string): void {
    for (const machine of this.#world.machines) this.#world.sim.after(this.#world.sim.random() * killMs, () => { machine.endGuard(why) })
  }

  /** scontrol as one daemon runs it. */
  scontrolFor(daemon: Daemon): Scontrol {
    const absent = (): StintError => new StintError('E_SLURM', 'Unable to contact slurm controller')
    const call = <T>(what: string, effect: () => T): Promise<T> => daemon.act(`scontrol ${what}`, effect, undefined, absent)
    const scontrol: Partial<Scontrol> = {
      showJob: () => call('show', () => this.job),
      showJobSoon: async () => call('show soon', () => this.job).catch((error: unknown) => {
        if ((error as StintError).code === 'E_SLURM') return undefined
        throw error
      }),
      requeue: (_, how, which) => call(how, () => { this.requeue(which, daemon.node, how === 'requeuehold') }),
      setAdminComment: (_, text) => call('admincomment', () => { this.adminComment = text }),
      setComment: (_, text) => call('comment', () => { this.comment = text }),
      release: () => call('release', () => { this.isHeld = false }),
      excludeNodes: (_, nodes) => call('excludeNodes', () => { this.excluded = [...nodes] }),
      requireNodes: () => call('requireNodes', () => undefined),
      releasedNodes: () => call('releasedNodes', () => []),
      showNodes: () => call('showNodes', () => []),
      nodesOf: () => call('nodesOf', () => this.#world.partition),
      hostNames: (list) => call('hostNames', () => (list === '' ? [] : list.split(','))),
    }
    return scontrol as Scontrol
  }
}
