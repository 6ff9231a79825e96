import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { besideSeconds } from '../../daemon/member/preflight.ts'
import type { Sandbox } from '../../daemon/context.ts'
import { makeContext, type TestContext } from '../support/context.ts'

let world: TestContext
let own: Sandbox

beforeEach(() => {
  world = makeContext()
  own = world.addSandbox(1)
})
afterEach(async () => world[Symbol.asyncDispose]())

/** Another run that is to be saved from one second to another, and needs three for it. */
function another(job: number, from: number, to: number): void {
  const sandbox = world.addSandbox(job)
  sandbox.plan = { prediction: { bytes: 1, seconds: 3, spreadSeconds: 0, measured: 9 }, besideSeconds: 0 }
  sandbox.plannedAt = from * 1000
  world.context.catalogue.members.setEndTime(sandbox.memberId, to * 1000)
}

describe('the time that other runs of a node need at the same time', () => {
  test('counts for those whose own time before their end meets this one', () => {
    another(2, 95, 101)
    another(3, 92, 98)
    expect(besideSeconds(world.context, own, 96_000, 100_000)).toBe(6)
  })

  test('does not count for those that begin after this end, or end before this beginning, however near', () => {
    another(2, 101, 107)
    another(3, 90, 95)
    expect(besideSeconds(world.context, own, 96_000, 100_000)).toBe(0)
  })

  test('does not count for those that have no plan or no end', () => {
    const [unplanned, endless] = [world.addSandbox(2), world.addSandbox(3)]
    world.context.catalogue.members.setEndTime(unplanned.memberId, 100_000)
    endless.plan = { prediction: { bytes: 1, seconds: 3, spreadSeconds: 0, measured: 9 }, besideSeconds: 0 }
    world.context.catalogue.members.setEndTime(endless.memberId, null)
    expect(besideSeconds(world.context, own, 96_000, 100_000)).toBe(0)
  })
})
