import { checkpoint } from '../../daemon/run/checkpoint.ts'
import type { FaultKind, Schedule, Simulation } from './simulation.ts'
import { World } from './world.ts'

/** What happens in a schedule besides its faults. */
export interface Scenario {
  readonly members: number
  /** A checkpoint that the job runs on after, or one that ends it. */
  readonly keepRunning: boolean
}

/** Traces are kept where somebody wants to see them. */
export interface Played {
  readonly violations: readonly string[]
  readonly trace: readonly string[]
  /** Steps that there were, each of which a fault may strike. */
  readonly steps: number
}

const quiet = 60_000

async function finish(sim: Simulation, world: World): Promise<Played> {
  await world.settle()
  return { violations: sim.violations, trace: sim.trace, steps: sim.steps }
}

/** A step that says that it has failed keeps nobody from being told. */
function isSaid(kind: FaultKind): boolean {
  return kind === 'fail' || kind === 'fail-after'
}

/** A run that lives is saved. Steps count from the checkpoint's first. */
export async function playCheckpoint({ members, keepRunning }: Scenario, schedule: Schedule, isTraced = false): Promise<Played> {
  using world = new World({ seed: schedule.seed, faults: schedule.faults }, { members, state: 'running' }, isTraced)
  const { sim } = world
  world.boot()
  await sim.run(quiet, () => world.isQuiet())
  sim.begin()
  const { daemon } = world.coordinator
  const sandbox = daemon?.context.sandboxes.get(world.jobId)
  if (daemon === undefined || sandbox === undefined) throw new Error('the run was not found again')
  daemon.pending++
  void checkpoint(daemon.context, sandbox, { trigger: 'request', keepRunning }).then(
    (row) => { sim.note(`saved as ${row.number}`) },
    (error: unknown) => {
      sim.note(`not saved: ${String(error)}`)
      if (schedule.faults.length === 1 && schedule.faults.every(({ kind }) => isSaid(kind))) world.assertRunning()
    },
  ).finally(() => { daemon.pending-- })
  return await finish(sim, world)
}

/** A run with two checkpoints is restored: the daemons have just begun again, and found its sandboxes empty. */
export async function playRestore({ members, damaged }: { readonly members: number; readonly damaged: boolean }, schedule: Schedule, isTraced = false): Promise<Played> {
  using world = new World(schedule, { members, state: 'restoring' }, isTraced)
  world.save(1)
  world.save(2)
  if (damaged) world.store.damaged.add(2)
  world.sim.begin()
  world.boot()
  return await finish(world.sim, world)
}
