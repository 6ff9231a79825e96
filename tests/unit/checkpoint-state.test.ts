import { describe, expect, test } from '@jest/globals'
import Database from 'better-sqlite3'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterCrash, wordOnRecord } from '../../daemon/core/after-crash.ts'
import {
  assertCommit, assertPhase, assertRequeued, awaitsRequeue, cameThrough, decisions, givenUp, isOpen, phases, stateOf, type CheckpointFacts,
} from '../../daemon/core/checkpoint-state.ts'

const fresh = (keeps: 0 | 1): CheckpointFacts => ({ phase: 'writing', decision: 'none', keep_running: keeps, requeued: 0 })

/** What the step makes of a checkpoint, or undefined where it must not be. */
type Step = (from: CheckpointFacts) => CheckpointFacts | undefined
const when = (assert: (from: CheckpointFacts) => void, next: (from: CheckpointFacts) => CheckpointFacts): Step => (from) => {
  try {
    assert(from)
  } catch {
    return undefined
  }
  return next(from)
}
const steps: Readonly<Record<string, Step>> = {
  written: when((from) => { assertPhase(from, 'written') }, (from) => ({ ...from, phase: 'written' })),
  sealed: when((from) => { assertPhase(from, 'sealed') }, (from) => ({ ...from, phase: 'sealed' })),
  commit: when(assertCommit, (from) => ({ ...from, decision: 'commit' })),
  requeued: when(assertRequeued, (from) => ({ ...from, requeued: 1 })),
  'given up': when(givenUp, (from) => ({ ...from, phase: 'dropped', decision: givenUp(from) })),
}

/** Everything that can come to be by legal steps. */
function reachable(): CheckpointFacts[] {
  const found = new Map<string, CheckpointFacts>()
  const waiting = [fresh(0), fresh(1)]
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const name = JSON.stringify(next)
    if (found.has(name)) continue
    found.set(name, next)
    waiting.push(...Object.values(steps).flatMap((step) => step(next) ?? []))
  }
  return [...found.values()]
}

function run(keeps: 0 | 1, names: readonly string[]): CheckpointFacts | undefined {
  return names.reduce<CheckpointFacts | undefined>((from, name) => (from === undefined ? undefined : steps[name]?.(from)), fresh(keeps))
}

describe('a checkpoint', () => {
  test.each([
    [0, ['written', 'sealed', 'commit', 'requeued'], 'requeued'],
    [0, ['written', 'sealed', 'commit', 'given up'], 'aborted'],
    [0, ['written', 'given up'], 'aborted'],
    [0, ['given up'], 'aborted'],
    [0, ['written', 'sealed'], 'sealed'],
    [0, ['written', 'sealed', 'commit'], 'committed'],
    [1, ['written', 'commit', 'sealed'], 'sealed'],
    [1, ['written', 'commit'], 'committed'],
    [1, ['written', 'commit', 'given up'], 'aborted'],
    [1, [], 'dumping'],
    [1, ['written'], 'prepared'],
  ] as const)('that keeps running: %s, after %j, is %s', (keeps, names, state) => {
    const facts = run(keeps, names)
    expect(facts === undefined ? undefined : stateOf(facts)).toBe(state)
  })

  test.each([
    [0, ['sealed']], [0, ['commit']], [0, ['written', 'commit']], [0, ['written', 'sealed', 'requeued']], [0, ['written', 'sealed', 'commit', 'requeued', 'given up']],
    [0, ['given up', 'given up']], [0, ['given up', 'written']], [0, ['written', 'sealed', 'commit', 'requeued', 'requeued']],
    [1, ['commit']], [1, ['written', 'commit', 'sealed', 'requeued']], [1, ['written', 'commit', 'commit']], [1, ['written', 'given up', 'commit']],
  ] as const)('that keeps running: %s, never goes %j', (keeps, names) => {
    expect(run(keeps, names)).toBeUndefined()
  })

  test('of every kind that can come to be keeps the promises', () => {
    const all = reachable()
    expect(all.length).toBeGreaterThan(10)
    for (const facts of all) {
      // Nothing is killed that is not durable.
      if (facts.keep_running === 0 && facts.decision === 'commit') expect(facts.phase).toBe('sealed')
      // Slurm has the job back only for an image that is there.
      if (facts.requeued === 1) expect(facts).toMatchObject({ phase: 'sealed', decision: 'commit', keep_running: 0 })
      // An end that was decided and an image that is given up never stand side by side: the run would live nowhere.
      if (facts.phase === 'dropped' && facts.keep_running === 0) expect(facts.decision).toBe('abort')
      // What is through needs nobody; what is not through and not given up needs somebody.
      expect([cameThrough(facts), isOpen(facts), facts.phase === 'dropped'].filter(Boolean)).toHaveLength(1)
      if (awaitsRequeue(facts)) expect(isOpen(facts)).toBe(true)
      // From wherever a crash leaves it there is an end.
      if (isOpen(facts)) expect(steps['given up']?.(facts) ?? steps['requeued']?.(facts)).toBeDefined()
    }
  })
})

describe('after a crash', () => {
  test('only what was decided to end, and has ended, is saved', () => {
    const saved = reachable().flatMap((facts) => [true, false].map((payloadLives) => ({ facts, payloadLives })))
      .filter(({ facts, payloadLives }) => isOpen(facts) && afterCrash({ word: wordOnRecord(facts), keepRunning: facts.keep_running === 1, payloadLives }) === 'saved')
    expect(saved.map(({ facts, payloadLives }) => [stateOf(facts), facts.phase, facts.keep_running, payloadLives])).toEqual([['committed', 'sealed', 0, false]])
  })

  test('a payload that was to run on and came to its own end meanwhile is not saved, but over', () => {
    expect(afterCrash({ word: 'commit', keepRunning: true, payloadLives: false })).toBe('given-up')
  })
})

describe('the catalogue of an older stintd', () => {
  const migration = (name: string): string => readFileSync(join(import.meta.dirname, '../../migrations', name), 'utf8')

  test.each([
    ['dumping', 0, ['writing', 'none', 0]], ['dumping', 1, ['writing', 'none', 0]],
    ['prepared', 0, ['written', 'none', 0]], ['prepared', 1, ['written', 'none', 0]],
    ['sealed', 0, ['sealed', 'none', 0]], ['sealed', 1, ['sealed', 'commit', 0]],
    ['committed', 0, ['sealed', 'commit', 0]], ['committed', 1, ['written', 'commit', 0]],
    ['requeued', 0, ['sealed', 'commit', 1]], ['aborted', 0, ['dropped', 'abort', 0]], ['aborted', 1, ['dropped', 'abort', 0]],
  ] as const)('%s (keeps running: %s) means the same as before', (state, keeps, facts) => {
    const db = new Database(':memory:')
    db.exec(migration('0001_initial.sql'))
    db.prepare("INSERT INTO runs VALUES ('r', 1, 1, 1, 'a', '', 'h', 'x', '', '[]', '[]', 1, NULL, NULL, NULL, NULL)").run()
    db.prepare("INSERT INTO checkpoints (run_id, number, trigger, keep_running, state, started_at) VALUES ('r', 1, 'request', ?, ?, 1)").run(keeps, state)
    db.exec(migration('0004_phase_and_decision.sql'))
    const row = db.prepare<[], CheckpointFacts>('SELECT * FROM checkpoints').get()
    db.close()
    expect([row?.phase, row?.decision, row?.requeued]).toEqual(facts)
    if (row !== undefined) expect(stateOf(row)).toBe(state)
  })

  test('every phase and decision may stand in the table, and nothing else', () => {
    const sql = migration('0004_phase_and_decision.sql')
    for (const [column, words] of [['phase', phases], ['decision', decisions]] as const) expect(sql).toContain(`CHECK (${column} IN (${words.map((word) => `'${word}'`).join(', ')}))`)
  })
})
