import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, rmdirSync, writeFileSync, chmodSync, chownSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { carriedTrees } from '../core/file-places.ts'
import { StintError, asStintError, systemCode } from '../core/errors.ts'
import type { Obstacle } from '../core/obstacles.ts'
import { copyBounded } from '../linux/bounded-copy.ts'
import { overlongBelow } from '../linux/payload.ts'
import type { Context, LookContext, Looked, Sandbox } from '../context.ts'
import { scriptLimit } from './job-script.ts'
import { sandboxDirectory } from '../context.ts'

const treeName = 'tree.tar'
const carriedName = 'carried.tar'
const scriptName = 'script'
/** Lists what restoring the job script created on this node, so that it can be removed at the end. */
const createdName = 'created.json'

export function inMounts(context: LookContext, sandbox: Looked, ...besides: readonly 'pid'[]): [string, ...string[]] {
  return [context.config.programs.nsenter, ...sandbox.pid1.enter('mnt', ...besides), '--wd=/', '--']
}

/**
 * Without any right of root: paths and archives of user-made content must not lead where only root may go.
 * @param capability one that it has all the same, as setpriv names it
 */
export function asUser(context: Context, sandbox: Sandbox, capability?: string): string[] {
  const sets = capability === undefined ? ['--inh-caps=-all'] : [`--inh-caps=-all,+${capability}`, `--ambient-caps=-all,+${capability}`]
  return [context.config.programs.setpriv, `--reuid=${sandbox.run.uid}`, `--regid=${sandbox.run.gid}`, '--init-groups', ...sets, '--']
}

/**
 * The same for a helper that has files of the image open: its real id stays root's, so that other processes of the user can neither
 * trace it nor take its descriptors. `noroot`: that id gives no right. Groups are given by number, as setpriv looks them up for a real id only.
 * @throws StintError E_COMMAND_FAILED when the groups cannot be looked up
 */
export async function asUserOutOfReach(context: Context, sandbox: Sandbox, capability?: string): Promise<string[]> {
  return withoutRights(context, sandbox, await context.users.groupsOf(sandbox.run.user), capability)
}

/** The same with groups that are known. */
export function withoutRights(context: LookContext, sandbox: Looked, groups: readonly number[], capability?: string): string[] {
  const sets = capability === undefined ? ['--inh-caps=-all'] : [`--inh-caps=-all,+${capability}`, `--ambient-caps=-all,+${capability}`]
  const supplementary = groups.length === 0 ? '--clear-groups' : `--groups=${groups.join(',')}`
  return [context.config.programs.setpriv, `--euid=${sandbox.run.uid}`, `--egid=${sandbox.run.gid}`, supplementary, '--securebits=+noroot', ...sets, '--']
}

/** Times to the nanosecond, which make compares, need the pax format; extended attributes of the user and ACLs travel in it, too. */
const metadata = ['--format=posix', '--pax-option=delete=ctime,delete=atime', '--xattrs', '--xattrs-include=user.*', '--acls']

/**
 * Access times stay as they are.
 * @param paths from `/`, each with a zero byte behind it
 * @param runAs what stands before tar: nothing, or asUserOutOfReach()
 */
async function pack(context: Context, sandbox: Sandbox, output: string, paths: Uint8Array, signal: AbortSignal, runAs: readonly string[] = []): Promise<void> {
  try {
    await context.commands.run(
      [...inMounts(context, sandbox), ...runAs, context.config.programs.tar, '--create', '--file=-', '--directory=/', '--atime-preserve=system', ...metadata, '--sparse', '--numeric-owner', '--null', '--files-from=-'],
      { input: paths, outputFile: output, signal, timeoutSeconds: context.config.checkpoint.timeout_seconds },
    )
  } catch (error) {
    signal.throwIfAborted()
    const message = asStintError(error).message
    throw new StintError(/No space left|quota/i.test(message) ? 'E_STORE_FULL' : 'E_COMMAND_FAILED', `the sandbox's files could not be carried: ${message}`, { cause: error })
  }
}

/**
 * @param mode how tar treats what is there already
 * @param cgroups what is unpacked into `/tmp` and `/dev/shm` is memory: the job's, not the daemon's
 */
async function unpack(context: Context, sandbox: Sandbox, input: string, mode: '--no-overwrite-dir' | '--overwrite', cgroups: readonly string[]): Promise<void> {
  await context.commands.run(
    [join(context.config.paths.libexec_dir, 'stint-init'), 'join', ...cgroups, '--', ...inMounts(context, sandbox), ...await asUserOutOfReach(context, sandbox), context.config.programs.tar, '--extract', '--file=-', '--directory=/', ...metadata, '--same-permissions', '--numeric-owner', mode],
    { inputFile: input, timeoutSeconds: context.config.checkpoint.timeout_seconds },
  )
}

/**
 * What lies in the private trees, by the bytes of its names, each with a zero byte behind it. Not the trees' own directories: they are
 * root's and stand in every sandbox.
 */
export function treeEntries(sandbox: Looked): Uint8Array {
  return Buffer.concat(carriedTrees.flatMap((tree) => (
    readdirSync(`${sandbox.pid1.proc}/root${tree}`, { encoding: 'buffer' }).flatMap((name) => [Buffer.from(`${tree.slice(1)}/`), name, Buffer.from([0])])
  )))
}

/**
 * What of the private trees would not come back: tar packs by descriptors whatever is there, and unpacks by names.
 * @param directories that are looked at in each tree, at most
 */
export async function treeObstacles({ pid1 }: Looked, directories = Infinity): Promise<Obstacle[]> {
  const root = `${pid1.proc}/root`
  const found = await Promise.all(carriedTrees.map(async (tree) => ({ tree, overlong: await overlongBelow(Buffer.from(`${root}${tree}`), { directories }) })))
  return found.flatMap(({ tree, overlong }) => (overlong === undefined ? [] : [{
    kind: 'overlong-path', message: `${overlong.slice(root.length)} leads deeper than 4095 bytes, and could not be put back`, remedy: `Remove the directory, or move it up: ${tree} travels with the image.`,
  }]))
}

/** Asked once more, of everything, while the payload is frozen. @throws StintError E_PREFLIGHT */
async function assertNamable(context: Context, sandbox: Sandbox): Promise<void> {
  const [first] = await context.look('trees', sandbox, null)
  if (first !== undefined) throw new StintError('E_PREFLIGHT', first.message, { hint: first.remedy, details: { obstacles: [first] } })
}

/** An archive of nothing as tar writes it: end-of-archive blocks up to a whole record. */
const emptyArchive = Buffer.alloc(10_240)

/**
 * Puts what is not CRIU's into the image: the private trees, node-local open files, the job script. The payload is frozen.
 * @param entries as treeEntries has them
 * @param signal ends it; its reason is thrown then
 */
export async function carryOut(context: Context, sandbox: Sandbox, directory: string, entries: Uint8Array, carried: readonly string[], signal: AbortSignal): Promise<void> {
  if (entries.length > 0) {
    const namable = assertNamable(context, sandbox)
    namable.catch(() => undefined) // Awaited below, when tar does not write any more.
    await pack(context, sandbox, join(directory, treeName), entries, signal)
    await namable
  }
  else writeFileSync(join(directory, treeName), emptyArchive, { mode: 0o600 })
  if (carried.length > 0) await pack(context, sandbox, join(directory, carriedName), Buffer.from(carried.map((path) => `${path.slice(1)}\0`).join('')), signal, await asUserOutOfReach(context, sandbox))
  if (sandbox.run.script !== '') await copyBounded(`${sandbox.pid1.proc}/root${sandbox.run.script}`, join(directory, scriptName), 0o600, scriptLimit(context))
}

/** Fills the private trees of a fresh sandbox. @param cgroups whose memory they are */
export async function unpackTree(context: Context, sandbox: Sandbox, directory: string, cgroups: readonly string[]): Promise<void> {
  await unpack(context, sandbox, join(directory, treeName), '--no-overwrite-dir', cgroups)
}

/** Brings it back into a fresh sandbox, before the engine restores. @param cgroups those of the payload */
export async function carryIn(context: Context, sandbox: Sandbox, directory: string, cgroups: readonly string[]): Promise<void> {
  await unpackTree(context, sandbox, directory, cgroups)
  // In place: slurmstepd has the job's output files open.
  if (existsSync(join(directory, carriedName))) await unpack(context, sandbox, join(directory, carriedName), '--overwrite', cgroups)
  if (sandbox.run.script !== '' && !existsSync(sandbox.run.script)) await placeScript(context, sandbox, join(directory, scriptName))
}

/** The job script's path has the first node's name in it; bash has it open. Made as slurmd made it, for this sandbox's life. */
async function placeScript(context: Context, sandbox: Sandbox, source: string): Promise<void> {
  const missing: string[] = []
  for (let at = dirname(sandbox.run.script); !existsSync(at); at = dirname(at)) missing.push(at)
  const created = [sandbox.run.script, ...missing]
  writeFileSync(join(sandboxDirectory(context, sandbox.run.job_id), createdName), JSON.stringify(created))
  for (const directory of missing.toReversed()) mkdirSync(directory, { mode: 0o755 })
  await copyBounded(source, sandbox.run.script, 0o700, scriptLimit(context))
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
