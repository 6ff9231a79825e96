import { closeSync, fstatSync, mkdirSync, mkdtempSync, openSync, readFileSync, readSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { release, tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { execa } from 'execa'
import { cataloguePath, enginePath, type Config } from '../core/config.ts'
import { StintError, asStintError } from '../core/errors.ts'
import { nodeName } from '../linux/node-name.ts'
import { versionOfStint } from '../version.ts'
import { call } from './client.ts'

/** Of a log its end goes in; bytes. */
const mostOfLog = 16 * 2 ** 20
/** Lines of the service's journal. */
const journalLines = 5000

export interface DebugBundle {
  readonly file: string
  /** What is in it, by name. */
  readonly parts: readonly string[]
  /** What is not, and why. */
  readonly missing: Readonly<Record<string, string>>
}

export interface BundleSource {
  readonly job: number
  readonly config: Config
  readonly configPath: string
  readonly socket: string
  /** For one program or question: a daemon that hangs is a reason to ask for a bundle. 20 unless told. */
  readonly patienceSeconds?: number
}

/** A file's end. */
function endOf(path: string): Buffer {
  const file = openSync(path, 'r')
  try {
    const { size } = fstatSync(file)
    const wanted = Buffer.alloc(Math.min(size, mostOfLog))
    return wanted.subarray(0, readSync(file, wanted, 0, wanted.length, size - wanted.length))
  } finally {
    closeSync(file)
  }
}

/** Regular files below a directory whose names match, by their paths relative to it. */
function filesBelow(directory: string, name: RegExp): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && name.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
}

/** Every row of the catalogue that belongs to a job, by table, read past a daemon that may be gone. */
function rowsOf(path: string, job: number): Record<string, unknown[]> {
  const db = new Database(path, { readonly: true, fileMustExist: true })
  try {
    const ofRuns = 'run_id IN (SELECT id FROM runs WHERE job_id = ?)'
    const conditions: Record<string, string> = {
      runs: 'job_id = ?', members: ofRuns, checkpoints: ofRuns, events: ofRuns, images: `checkpoint_id IN (SELECT id FROM checkpoints WHERE ${ofRuns})`, audit: 'job = ?',
    }
    return Object.fromEntries(Object.entries(conditions).map(([table, condition]) => [table, db.prepare<[number]>(`SELECT * FROM ${table} WHERE ${condition}`).all(job)]))
  } finally {
    db.close()
  }
}

type Run = (program: string, ...args: string[]) => Promise<string>

/** Versions of everything that takes part. */
async function versions(run: Run): Promise<object> {
  const firstLineOf: Run = async (...command) => (await run(...command).catch((cause: unknown) => asStintError(cause).message)).split('\n', 1)[0] ?? ''
  return { at: new Date().toISOString(), node: nodeName(), stint: versionOfStint(), kernel: release(), nodejs: process.version, criu: await firstLineOf('criu', '--version'), slurm: await firstLineOf('scontrol', '--version') }
}

/** Puts the parts into a directory; whatever is not to be had is no reason to go without the rest. */
class Collector {
  readonly parts: string[] = []
  readonly missing: Record<string, string> = {}
  readonly #directory: string

  constructor(directory: string) {
    this.#directory = directory
  }

  async add(name: string, content: () => string | Buffer | object | Promise<string | Buffer | object>): Promise<void> {
    try {
      const made = await content()
      const path = join(this.#directory, name)
      mkdirSync(join(path, '..'), { recursive: true, mode: 0o700 })
      writeFileSync(path, typeof made === 'string' || Buffer.isBuffer(made) ? made : `${JSON.stringify(made, undefined, 1)}\n`, { mode: 0o600, flag: 'wx' })
      this.parts.push(name)
    } catch (cause) {
      this.missing[name] = asStintError(cause).message
    }
  }

  async addFilesOf(name: string, directory: string, pattern: RegExp): Promise<void> {
    let files: string[] = []
    try {
      files = filesBelow(directory, pattern)
    } catch (cause) {
      this.missing[`${name}/`] = asStintError(cause).message
    }
    for (const file of files) await this.add(`${name}/${file}`, () => endOf(join(directory, file)))
  }
}

/**
 * Packs what somebody else needs to see why a job was not saved or not continued: logs, catalogue rows, manifests, versions,
 * what the daemon says. Nothing of the job's memory or of its files; names, paths and command lines are in it.
 * @param file a new tar archive, which only root may read
 * @throws StintError E_BAD_REQUEST when there is such a file or it cannot be written
 */
export async function packDebugBundle({ job, config, configPath, socket, patienceSeconds = 20 }: BundleSource, file: string): Promise<DebugBundle> {
  try {
    closeSync(openSync(file, 'wx', 0o600))
  } catch (cause) {
    throw new StintError('E_BAD_REQUEST', `${file} cannot be written: ${asStintError(cause).message}`, { hint: 'Name another file with --output.', cause })
  }
  const run: Run = async (program, ...args) => (await execa(program, args, { all: true, stdin: 'ignore', timeout: patienceSeconds * 1000 })).all
  const directory = mkdtempSync(join(tmpdir(), 'stint-debug-'))
  try {
    const bundle = new Collector(directory)
    await bundle.add('versions.json', async () => versions(run))
    await bundle.add('stint.toml', () => readFileSync(configPath))
    await bundle.add('rows.json', () => rowsOf(cataloguePath(config), job))
    await bundle.addFilesOf('engine', join(enginePath(config), String(job)), /\.log$/)
    await bundle.addFilesOf('manifests', join(config.store.path, String(job)), /^manifest\.json$/)
    await bundle.add('slurm-job.txt', async () => run('scontrol', 'show', 'job', String(job)))
    await bundle.add('stintd.log', async () => run('journalctl', '--unit=stintd', '--no-pager', '--output=cat', `--lines=${journalLines}`))
    for (const [name, path] of [['status', `runs/${job}`], ['images', `images?job=${job}`], ['doctor', 'doctor'], ['health', 'health']] as const) {
      await bundle.add(`${name}.json`, async () => call<object>(socket, 'GET', `/v1/${path}`, undefined, AbortSignal.timeout(patienceSeconds * 1000)))
    }
    await bundle.add('missing.json', () => bundle.missing)
    await execa('tar', ['--create', '--gzip', `--file=${file}`, `--transform=s,^\\.,stint-debug-${job},`, '--directory', directory, '.'], { stdin: 'ignore' })
    return { file, parts: bundle.parts, missing: bundle.missing }
  } catch (cause) {
    rmSync(file, { force: true })
    throw cause
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
