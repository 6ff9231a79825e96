import { watchesTrees, ghostBytes, payloadBytes, payloadProcesses, type PayloadProcess } from '../linux/payload.ts'
import { LookBudget, fewOfEachKind, type LookAnswers, type LookFacts, type LookKind } from '../core/looks.ts'
import { insideTree, outsideTree } from '../core/obstacles.ts'
import { plannedCost } from '../core/rollback.ts'
import { type LookContext, type Looked, rootPid } from '../context.ts'
import { treeEntries, treeObstacles } from './archive.ts'
import { lookForBlockers } from './blockers.ts'
import { deletedNameObstacles } from './deleted-names.ts'
import { planFor } from './file-rollback.ts'
import { countObjects, inspect, scriptBytes } from './inspect.ts'
import { ledgerObstacles } from './ledger.ts'
import { filesOnlyRead } from './read-files.ts'
import { rehearsalLook } from './rehearse.ts'
import { tcpLosses } from './tcp-losses.ts'

/** The looks of core/looks.ts, as a helper process makes them. */

/** In each private tree, before the freeze: most of what lies there need not be seen twice. */
const directoriesLookedAt = 2000

async function preflight(context: LookContext, sandbox: Looked, { guardStopped }: LookFacts['preflight']): Promise<LookAnswers['preflight']> {
  const { processes, obstacles, carried, carriedBytes } = inspect(context, sandbox)
  const [ofTrees, losses, ofLedger, blockers, ofNames, ghosts, payload] = await Promise.all([
    treeObstacles(sandbox, directoriesLookedAt), tcpLosses(context, sandbox, processes), ledgerObstacles(context, sandbox, processes), lookForBlockers(context, sandbox, processes, guardStopped), deletedNameObstacles(context, sandbox, processes),
    ghostBytes(sandbox.pid1, processes), payloadBytes(sandbox.pid1),
  ])
  const { copied, cloned, files } = plannedCost(planFor(context, sandbox, processes, carried))
  return {
    obstacles: fewOfEachKind([...obstacles, ...blockers, ...ofTrees, ...losses.obstacles, ...ofLedger, ...ofNames]), carried, processes: processes.length, cloned,
    bytes: payload + ghosts + scriptBytes(sandbox) + carriedBytes + copied, objects: countObjects(sandbox, processes, files),
    noticing: processes.some((one) => one.watched.length > 0 || one.files.some((file) => file.leased)),
  }
}

function livingPids(processes: readonly PayloadProcess[]): number[] {
  return insideTree(processes, rootPid).filter(({ state }) => state !== 'Z' && state !== 'X').map(({ pid }) => pid)
}

/** Asked anew while the payload is frozen: what came since the preflight is caught before anything is ended. */
async function frozen(context: LookContext, sandbox: Looked): Promise<LookAnswers['frozen']> {
  const { processes, carried, obstacles } = inspect(context, sandbox)
  const [lost] = outsideTree(processes, rootPid)
  const losses = await tcpLosses(context, sandbox, processes)
  const plan = planFor(context, sandbox, processes, carried)
  return {
    lost: lost === undefined ? undefined : { pid: lost.pid, comm: lost.comm },
    obstacles: fewOfEachKind([...obstacles.filter(({ kind }) => kind === 'lease' || kind === 'landlock'), ...losses.obstacles]), notes: losses.notes,
    carried, watchesTrees: watchesTrees(sandbox.pid1, processes), living: livingPids(processes),
    readFiles: filesOnlyRead(context, sandbox, processes, carried), plan, objects: countObjects(sandbox, processes, 0), entries: treeEntries(sandbox),
  }
}

const looks: { readonly [K in LookKind]: (context: LookContext, sandbox: Looked, facts: LookFacts[K]) => Promise<LookAnswers[K]> } = {
  preflight,
  frozen,
  trees: async (_, sandbox) => treeObstacles(sandbox),
  rehearsal: (context, sandbox, { imageBytes }) => Promise.resolve(rehearsalLook(sandbox, payloadProcesses(sandbox.pid1, new LookBudget(context.config.checkpoint.look_limit)), imageBytes)),
}

/** @throws StintError E_PREFLIGHT beyond checkpoint.look_limit */
export async function look<K extends LookKind>(context: LookContext, kind: K, sandbox: Looked, facts: LookFacts[K]): Promise<LookAnswers[K]> {
  return looks[kind](context, sandbox, facts)
}
