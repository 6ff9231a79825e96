import { existsSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { StintError, asStintError } from '../core/errors.ts'
import { placeOf } from '../core/file-places.ts'
import { insideTree } from '../core/obstacles.ts'
import { readOnlyPaths, whyNotReadOn, type ReadFile } from '../core/read-files.ts'
import { mountOfPath, mountsOf } from '../linux/mounts.ts'
import { sandboxProc, type OpenFile, type PayloadProcess } from '../linux/payload.ts'
import { unlessGone } from '../linux/processes.ts'
import { type Context, type LookContext, type Looked, type Sandbox, rootPid } from '../context.ts'
import { fileRules } from '../images/locality.ts'
import { lookAt } from './file-rollback.ts'

/** In an image: files that CRIU does not compare, as the payload had them. */
const fileName = 'read-files.json'

/** One open descriptor as it is now; undefined when it has become another file since it was looked at. */
function readFileOf(proc: string, { pid, fd, path }: OpenFile): ReadFile | undefined {
  const at = `${proc}/${pid}/fd/${fd ?? ''}`
  if (unlessGone(() => readlinkSync(at)) !== path) return undefined
  const stat = unlessGone(() => statSync(at))
  const position = /^pos:\s+(\d+)/m.exec(unlessGone(() => readFileSync(`${proc}/${pid}/fdinfo/${fd ?? ''}`, 'utf8')) ?? '')?.[1]
  return stat === undefined || position === undefined ? undefined : { path, inode: stat.ino, position: Number(position) }
}

/** By path, with the furthest position. A path that means two files is left to CRIU. */
function furthest(found: readonly ReadFile[]): ReadFile[] {
  const byPath = Map.groupBy(found, ({ path }) => path)
  return [...byPath.values()].flatMap((same) => {
    const [first] = same
    if (first === undefined || same.some(({ inode }) => inode !== first.inode)) return []
    return [{ ...first, position: Math.max(...same.map(({ position }) => position)) }]
  })
}

/** Files that may be longer when the job continues, as they are while the payload is frozen. */
export function filesOnlyRead(context: LookContext, sandbox: Looked, processes: readonly PayloadProcess[], carried: readonly string[]): ReadFile[] {
  const [rules, mounts, proc] = [fileRules(context), mountsOf(sandbox.pid1), sandboxProc(sandbox.pid1)]
  const files = insideTree(processes, rootPid).flatMap((process) => process.files)
  const isShared = (path: string): boolean => !carried.includes(path) && placeOf(path, mountOfPath(mounts, path)?.type, true, rules) === 'shared'
  const paths = new Set(readOnlyPaths(files, isShared))
  return furthest(files.filter(({ fd, path }) => fd !== undefined && paths.has(path)).flatMap((file) => readFileOf(proc, file) ?? []))
}

/**
 * The payload is frozen, CRIU's files are written: those it only reads may change until the restore. A fault here costs
 * them that, never the checkpoint.
 */
export async function recordReadFiles(context: Context, sandbox: Sandbox, directory: string, files: readonly ReadFile[]): Promise<void> {
  const record = join(directory, fileName)
  try {
    if (files.length === 0) return
    writeFileSync(record, JSON.stringify(files), { mode: 0o600 })
    await context.engine.forgetSizes(directory, files.map(({ path }) => path))
  } catch (cause) {
    rmSync(record, { force: true })
    context.log.error({ err: asStintError(cause), job: sandbox.run.job_id }, 'files that are only read not recorded')
  }
}

/** Before CRIU opens them. @throws StintError E_CRIU_RESTORE_FAILED naming the first that the payload cannot read on in */
export async function assertReadFiles(context: Context, sandbox: Sandbox, directory: string): Promise<void> {
  const record = join(directory, fileName)
  if (!existsSync(record)) return
  const files = JSON.parse(readFileSync(record, 'utf8')) as ReadFile[]
  const seen = await lookAt(context, sandbox, files.map(({ path }) => path))
  const why = files.map((file, n) => whyNotReadOn(file, seen[n] ?? { kind: 'missing' })).find((reason) => reason !== undefined)
  if (why !== undefined) throw new StintError('E_CRIU_RESTORE_FAILED', why, { hint: `Put the file back as it was, then \`scontrol release ${sandbox.run.job_id}\`; an older checkpoint is tried where there is one.` })
}
