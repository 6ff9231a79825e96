import { spawn } from 'node:child_process'
import { mkdtempSync, writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { buildCTargets, cTargets, fuzzC } from './c-targets.ts'
import { fuzz, type Outcome } from './check.ts'
import { fuzzRest } from './check-rest.ts'
import { targets } from './targets.ts'

/**
 * npm run fuzz [-- [--runs N] [--seed N] [--json] [TARGET...]]: so many inputs for each target, 10^6 by default, each target in a
 * process of its own with bounded memory, which is ended when it stands still. Exit code 1 when one has failed.
 */

/** A target that tries no 1000 inputs in this time hangs, seconds. */
const hangSeconds = 120
const heapMegabytes = 512
const progressFd = 3

interface Result extends Outcome { readonly target: string; readonly seconds: number; readonly perSecond: number }

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { runs: { type: 'string', default: '1000000' }, seed: { type: 'string' }, json: { type: 'boolean', default: false }, child: { type: 'boolean', default: false } },
})
const runs = Number(values.runs)
const seed = values.seed === undefined ? Date.now() % 2 ** 31 : Number(values.seed)

/** In the child: numbers of inputs tried on descriptor 3, one a line, and at last what came of it. */
async function beChild(name: string): Promise<void> {
  const options = { runs, seed, progress: (done: number) => { writeSync(progressFd, `${done}\n`) } }
  const target = targets.find((one) => one.name === name)
  writeSync(progressFd, `${JSON.stringify(target === undefined ? await fuzzRest(options) : fuzz(target, options))}\n`)
}

function inChild(name: string): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>()
  const child = spawn(process.execPath, [`--max-old-space-size=${heapMegabytes}`, '--no-warnings', import.meta.filename, '--child', '--runs', String(runs), '--seed', String(seed), name], { stdio: ['ignore', 'inherit', 'inherit', 'pipe'] })
  let done = 0
  let outcome: Outcome | undefined
  const hangs = setTimeout(() => { child.kill('SIGKILL') }, hangSeconds * 1000)
  createInterface({ input: child.stdio[progressFd] as NodeJS.ReadableStream }).on('line', (line) => {
    hangs.refresh()
    if (line.startsWith('{')) outcome = JSON.parse(line) as Outcome
    else done = Number(line)
    if (done % 50_000 === 0 && outcome === undefined) process.stderr.write(`${name}: ${done} of ${runs}\n`)
  })
  child.once('close', (code, signal) => {
    clearTimeout(hangs)
    resolve(outcome ?? { runs: done, failure: { input: `one of the 1000 after ${done}, seed ${seed}`, error: signal === 'SIGKILL' ? `no answer within ${hangSeconds} s` : `the process ended with ${signal ?? code ?? 0}: out of memory?` } })
  })
  return promise
}

async function measure(target: string, run: () => Promise<Outcome>): Promise<Result> {
  const start = performance.now()
  const outcome = await run()
  const seconds = (performance.now() - start) / 1000
  return { target, ...outcome, seconds, perSecond: outcome.runs / seconds }
}

async function main(): Promise<void> {
  const wanted = (name: string): boolean => positionals.length === 0 || positionals.includes(name)
  process.stderr.write(`seed ${seed}\n`)
  const results: Result[] = []
  const inC = cTargets.filter((name) => wanted(`c-${name}`))
  const directory = mkdtempSync(join(tmpdir(), 'stint-fuzz-'))
  const isLibFuzzer = inC.length > 0 && await buildCTargets(directory)
  for (const name of inC) results.push(await measure(`c-${name}`, async () => fuzzC(directory, name, isLibFuzzer, { runs, seed })))
  for (const name of [...targets.map((one) => one.name), 'rest'].filter(wanted)) results.push(await measure(name, async () => inChild(name)))
  if (values.json) process.stdout.write(`${JSON.stringify({ seed, results }, undefined, 2)}\n`)
  else for (const { target, runs: done, perSecond, failure } of results) process.stdout.write(`${target.padEnd(18)} ${String(done).padStart(9)} inputs ${perSecond.toFixed(0).padStart(7)}/s  ${failure === undefined ? 'held' : `FAILED\n${failure.input}\n${failure.error}`}\n`)
  if (results.length === 0 || results.some(({ failure }) => failure !== undefined)) process.exitCode = 1
}

await (values.child ? beChild(positionals[0] ?? '') : main())
