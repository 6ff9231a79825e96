import { moveCases, playMoveCase } from '../support/move-cases.ts'
import { testOnLanes } from '../support/lanes.ts'

/** After a move it is the same program, or the move was refused beforehand: one small job for each kind of thing a program can hold on to. */

/** As many small jobs as run at the same time: the cluster has 20 CPUs, and most jobs wait in the queue for a while. */
const test = testOnLanes(Array.from({ length: 16 }, (_, lane) => String(lane)))

for (const found of moveCases()) {
  test(found.refused === undefined ? `${found.name}: moved with equal results` : `${found.name}: refused beforehand (${found.refused}), undisturbed`, async () => playMoveCase(found), 5 * 60_000)
}
