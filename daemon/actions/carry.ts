import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, rmdirSync, writeFileSync, chmodSync, chownSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { carriedTrees } from '../core/file-places.ts'
import { StintError, asStintError, systemCode } from '../core/errors.ts'
import type { Context, Sandbox } from './context.ts'
import { sandboxDirectory } from './context.ts'

const treeName = 'tree.tar'
const carriedName = 'carried.tar'
const scriptName = 'script'
/** Lists what restoring the job script created on this node, so that it can be removed at the end. */
const createdName = 'created.json'

function inMounts(context: Context, sandbox: Sandbox): [string, ...string[]] {
  return [context.config.programs.nsenter, `--target=${sandbox.pid1}`, '--mount', '--wd=/', '--']
}

async function pack(context: Context, sandbox: Sandbox, output: string, paths: readonly string[]): Promise<void> {
  try {
    await context.commands.run(
      [...inMounts(context, sandbox), context.config.programs.tar, '--create', `--file=${output}`, '--directory=/', '--sparse', '--numeric-owner', '--null', '--files-from=-'],
      { input: paths.join('\0'), timeoutSeconds: context.config.checkpoint.timeout_seconds },
    )
  } catch (error) {
    const message = asStintError(error).message
    throw new StintError(/No space left|quota/i.test(message) ? 'E_STORE_FULL' : 'E_COMMAND_FAILED', `the sandbox's files could not be carried: ${message}`, { cause: error })
  }
}

/** Unpacks as the job's user: an archive of user-made content gets no rights of root. In place: others have these files open. */
async function unpack(context: Context, sandbox: Sandbox, input: string): Promise<void> {
  const { setpriv, tar } = context.config.programs
  await context.commands.run(
    [...inMounts(context, sandbox), setpriv, `--reuid=${sandbox.run.uid}`, `--regid=${sandbox.run.gid}`, '--init-groups', '--inh-caps=-all', '--', tar,
      '--extract', '--file=-', '--directory=/', '--same-permissions', '--numeric-owner', '--no-overwrite-dir', '--overwrite'],
    { inputFile: input, timeoutSeconds: context.config.checkpoint.timeout_seconds },
  )
}

/** What lies in the private trees. Not the trees' own directories: they are root's and stand in every sandbox. */
function treeEntries(sandbox: Sandbox): string[] {
  return carriedTrees.flatMap((tree) => readdirSync(`/proc/${sandbox.pid1}/root${tree}`).map((name) => join(tree, name).slice(1)))
}

/** Puts what is not CRIU's into the image: the private trees, node-local open files, the job script. The payload is frozen. */
export async function carryOut(context: Context, sandbox: Sandbox, directory: string, carried: readonly string[]): Promise<void> {
  await pack(context, sandbox, join(directory, treeName), treeEntries(sandbox))
  if (carried.length > 0) await pack(context, sandbox, join(directory, carriedName), carried.map((path) => path.slice(1)))
  if (sandbox.run.script !== '') writeFileSync(join(directory, scriptName), readFileSync(`/proc/${sandbox.pid1}/root${sandbox.run.script}`), { mode: 0o600 })
}

/** Brings it back into a fresh sandbox, before the engine restores. */
export async function carryIn(context: Context, sandbox: Sandbox, directory: string): Promise<void> {
  await unpack(context, sandbox, join(directory, treeName))
  if (existsSync(join(directory, carriedName))) await unpack(context, sandbox, join(directory, carriedName))
  if (sandbox.run.script !== '' && !existsSync(sandbox.run.script)) placeScript(context, sandbox, join(directory, scriptName))
}

/** The job script's path has the first node's name in it; bash has it open. Made as slurmd made it, for this sandbox's life. */
function placeScript(context: Context, sandbox: Sandbox, source: string): void {
  const missing: string[] = []
  for (let at = dirname(sandbox.run.script); !existsSync(at); at = dirname(at)) missing.push(at)
  const created = [sandbox.run.script, ...missing]
  writeFileSync(join(sandboxDirectory(context, sandbox.run.job_id), createdName), JSON.stringify(created))
  for (const directory of missing.toReversed()) mkdirSync(directory, { mode: 0o755 })
  writeFileSync(sandbox.run.script, readFileSync(source), { flag: 'wx', mode: 0o700 })
  chmodSync(sandbox.run.script, 0o700)
  chownSync(sandbox.run.script, sandbox.run.uid, sandbox.run.gid)
}

/** Removes what placeScript made; directories only while they are empty. */
export function removePlacedScript(context: Context, jobId: number): void {
  let created: string[]
  try {
    created = JSON.parse(readFileSync(join(sandboxDirectory(context, jobId), createdName), 'utf8')) as string[]
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return
    throw error
  }
  const [script, ...directories] = created
  if (script !== undefined) rmSync(script, { force: true })
  for (const directory of directories) {
    try {
      rmdirSync(directory)
    } catch (error) {
      if (!['ENOENT', 'ENOTEMPTY'].includes(systemCode(error) ?? '')) throw error
    }
  }
}
