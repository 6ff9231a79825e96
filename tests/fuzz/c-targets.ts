import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import type { Outcome } from './check.ts'

/** The fuzz targets of the C, by the names of their files in c/. */
export const cTargets = ['line', 'options', 'command', 'ledger'] as const

const source = join(import.meta.dirname, 'c')
const recorded = join(import.meta.dirname, '../fixtures/recorded')

/** A launch's body, and words of the ledger behind the number of their verb. */
const more = ['echo hi\0/home/alice\0A=1\0STINT_X=1\0', '\x000 1 6 4 -', '\x010=01000000 1=@eth0', '\x022 eth0 e0000101 0 7f000001', '\x031 1795833330 0 60 0']

/** Builds them with sanitizers into a directory. @param compiler `gcc` where another than clang is wanted; @returns whether libFuzzer drives them */
export async function buildCTargets(directory: string, compiler?: 'gcc'): Promise<boolean> {
  const { stdout } = await execa('make', ['-C', source, `BUILD=${directory}`, ...(compiler === undefined ? [] : [`CC=${compiler}`])])
  const corpus = join(directory, 'corpus')
  mkdirSync(corpus, { recursive: true })
  const lines = readdirSync(recorded).filter((name) => name.endsWith('.txt')).flatMap((name) => readFileSync(join(recorded, name), 'latin1').split('\n')).filter((line) => line !== '' && line.length < 1000)
  for (const [index, text] of [...lines, ...more].entries()) writeFileSync(join(corpus, String(index)), text, 'latin1')
  return stdout.includes('fuzzer')
}

/** @param directory of the built ones @throws Error when it could not be started */
export async function fuzzC(directory: string, name: string, isLibFuzzer: boolean, { runs, seed }: { readonly runs: number; readonly seed: number }): Promise<Outcome> {
  const corpus = join(directory, 'corpus')
  const found = join(directory, `${name}.found`)
  mkdirSync(found, { recursive: true })
  const inputs = isLibFuzzer ? ['-max_len=4300', '-timeout=5', '-rss_limit_mb=1024', `-artifact_prefix=${directory}/${name}-`, found, corpus] : readdirSync(corpus).map((file) => join(corpus, file))
  const { exitCode, stderr } = await execa(join(directory, name), [`-runs=${runs}`, `-seed=${seed % 2 ** 31}`, ...inputs], { reject: false, stdin: 'ignore' })
  return { runs, failure: exitCode === 0 ? undefined : { input: isLibFuzzer ? `beside ${directory}/${name}-` : `seed ${seed}`, error: stderr.slice(-4000) } }
}
