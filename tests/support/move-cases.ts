import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from '@jest/globals'
import { ask, on, printed, showJob, status, submit, tryOn, until, untilEnded, untilPrinted, untilRunning, untilState, workDirectory } from './cluster.ts'

/** What a job of tests/fixtures/moves expects of a save and a move, by the lines at its head (tests/fixtures/moves/README.md). */
export interface MoveCase {
  readonly name: string
  /** Lines that begin with RESULT, in order. */
  readonly results: readonly string[]
  /** Kind of the blocker that keeps the job from being saved. */
  readonly refused: string | undefined
  readonly told: readonly RegExp[]
  /** Commands of root on the job's node, in its directory, before it is saved. */
  readonly byRoot: readonly string[]
  /** Commands of the owner while the job waits in the queue. */
  readonly during: readonly string[]
  readonly keepOnly: boolean
  readonly script: string
}

const casesDirectory = join(import.meta.dirname, '..', 'fixtures', 'moves')

function headerValues(script: string, word: string): string[] {
  return [...script.matchAll(new RegExp(`^#${word}(?: (.*))?$`, 'gm'))].map((match) => match[1] ?? '')
}

function parseCase(name: string, script: string): MoveCase {
  return {
    name, script,
    results: headerValues(script, 'RESULT').map((text) => `RESULT ${text}`),
    refused: headerValues(script, 'REFUSED')[0],
    told: headerValues(script, 'TOLD').map((pattern) => new RegExp(pattern)),
    byRoot: headerValues(script, 'ROOT'),
    during: headerValues(script, 'DURING'),
    keepOnly: headerValues(script, 'KEEPONLY').length > 0,
  }
}

/** All cases, by name. @throws Error for one without an expected result: it could not fail */
export function moveCases(): MoveCase[] {
  return readdirSync(casesDirectory).filter((file) => file.endsWith('.sh')).sort().map((file) => {
    const found = parseCase(file.slice(0, -'.sh'.length), readFileSync(join(casesDirectory, file), 'utf8'))
    if (found.results.length === 0) throw new Error(`${file} has no #RESULT line`)
    return found
  })
}

interface Playing { readonly job: number; readonly node: string; readonly directory: string }

/** Where jobs of a case write their output: its own `--output` comes after ours. */
async function start(found: MoveCase): Promise<Playing> {
  const directory = await workDirectory()
  const sbatch = (found.script.match(/^#SBATCH (.*)$/gm) ?? []).map((line) => line.slice('#SBATCH '.length)).join(' ')
  const job = await submit({ directory, options: `--stint --time=10 --mem=500 --job-name=${found.name} ${sbatch}`, script: found.script })
  const node = await untilRunning(job, 0, 120)
  await until(`${found.name} is ready`, 60, async () => (await tryOn(node, `test -e ${directory}/ready`)).exitCode === 0)
  await untilState(node, job, 'running')
  for (const command of found.byRoot) await on(node, `cd ${directory} && ${command}`)
  return { job, node, directory }
}

async function save(job: number, node: string, keepRunning: boolean): ReturnType<typeof ask> {
  return ask(node, 'POST', `/v1/runs/${job}/checkpoints`, { keepRunning })
}

async function expectRefusal(found: MoveCase, { job, node, directory }: Playing): Promise<void> {
  // What comes and goes is looked at again, as the daemon does.
  const blocker = await until(`${found.name} is refused by ${found.refused}`, 20, async () => {
    const checked = await ask(node, 'GET', `/v1/runs/${job}/check`)
    return (JSON.parse(checked.body) as { obstacles: { kind: string; message: string; remedy: string }[] }).obstacles.find(({ kind }) => kind === found.refused)
  })
  expect(blocker.message).toMatch(/\S/)
  expect(blocker.remedy).toMatch(/\S/)
  expect((await save(job, node, false)).body).toMatch(/E_PREFLIGHT/)
  // The owner is told what stands in two looks.
  for (const pattern of found.told) await untilPrinted(directory, pattern, 40, 'err.txt')
  // STOPPED: the owner has stopped the batch step.
  expect((await showJob(job)).get('JobState')).toMatch(/^(RUNNING|STOPPED)$/)
}

async function expectMove(found: MoveCase, { job, node, directory }: Playing): Promise<void> {
  expect(await save(job, node, true)).toMatchObject({ status: 201 })
  if (found.keepOnly) return
  expect(await save(job, node, false)).toMatchObject({ status: 201 })
  await until(`job ${job} is requeued`, 30, async () => (await showJob(job)).get('JobState') === 'PENDING')
  await on('ctl', `scontrol update jobid=${job} excnodelist=${node}`)
  for (const command of found.during) await on('ctl', `cd ${directory} && ${command}`, { user: 'alice' })
  const next = await untilRunning(job, 1, 120)
  expect(next).not.toBe(node)
  const run = await until(`job ${job} goes on or is held`, 60, async () => {
    if ((await showJob(job)).get('Priority') === '0') throw new Error(`job ${job} is held: ${(await showJob(job)).get('Comment')}; ${JSON.stringify((await status(next, job))?.events)}`)
    const now = await status(next, job)
    return now?.state === 'running' ? now : undefined
  })
  expect(run.error).toBeNull()
}

/** Plays a case on whatever nodes Slurm gives it. @throws where the job does not end as its head says */
export async function playMoveCase(found: MoveCase): Promise<void> {
  const playing = await start(found)
  await (found.refused === undefined ? expectMove(found, playing) : expectRefusal(found, playing))
  await on('ctl', `touch ${playing.directory}/go`, { user: 'alice' })
  await untilEnded(playing.job, 120)
  const [output, errors] = [await printed(playing.directory), await printed(playing.directory, 'err.txt')]
  expect({ results: output.split('\n').filter((line) => line.startsWith('RESULT ')), errors }).toEqual({ results: found.results, errors: expect.anything() as unknown })
  for (const pattern of found.told) expect(errors).toMatch(pattern)
}
