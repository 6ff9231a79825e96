import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { StintError } from '../core/errors.ts'
import { changedIdentities, forgedIdentities, parseIdentities, replacedFiles, tellDifferences, type Identities } from '../core/identities.ts'
import type { Manifest } from '../core/manifest.ts'
import type { Context, Sandbox } from '../context.ts'
import { ledgerHelper, payloadPids } from './ledger.ts'

/** In an image: what `stint-init ledger identities` printed at the freeze (core/identities.ts). */
const recordName = 'identities'

function inputFor(sandbox: Sandbox): string {
  return payloadPids(sandbox).map((pid) => `process ${pid}\n`).join('')
}

/** The payload is frozen. Without this record its image could not be restored. @throws StintError E_COMMAND_FAILED */
export async function recordIdentities(context: Context, sandbox: Sandbox, directory: string): Promise<void> {
  await ledgerHelper(context, sandbox, 'identities', inputFor(sandbox), join(directory, recordName))
}

async function readRecord(directory: string): Promise<Identities> {
  const record = parseIdentities(await readFile(join(directory, recordName), 'utf8').catch(() => ''))
  if (record === undefined) throw new StintError('E_IDENTITY_CHANGED', 'the checkpoint has no record of who the processes were')
  return record
}

/**
 * An image as it is sealed or was sealed: what it gives the tasks is what the kernel said of them.
 * @throws StintError E_IDENTITY_CHANGED
 */
export async function assertNotForged(context: Context, directory: string, { uid, gid, rootPid, files }: Pick<Manifest, 'uid' | 'gid' | 'rootPid' | 'files'>): Promise<void> {
  const sealed = files.some(({ path }) => path === recordName)
  const differences = sealed ? forgedIdentities(await readRecord(directory), await context.engine.identities(directory), { uid, gid, rootPid }) : ['its record of who the processes were is not sealed']
  if (differences.length > 0) throw new StintError('E_IDENTITY_CHANGED', `the checkpoint is not what the job was: ${tellDifferences(differences)}`)
}

/** Everything is restored and has its identity, and nothing has run yet. @throws StintError E_IDENTITY_CHANGED */
export async function assertSame(context: Context, sandbox: Sandbox, directory: string): Promise<void> {
  const was = await readRecord(directory)
  const is = parseIdentities(await ledgerHelper(context, sandbox, 'identities', inputFor(sandbox)))
  if (is === undefined) throw new StintError('E_IDENTITY_CHANGED', 'nothing could be learnt of the restored processes')
  const differences = changedIdentities(was, is, sandbox.run.uid)
  if (differences.length > 0) throw new StintError('E_IDENTITY_CHANGED', `the job was not restored as it was: ${tellDifferences(differences)}`, { details: { differences: differences.length } })
  context.log.info({ job: sandbox.run.job_id, threads: is.threads.length, files: is.files.length, replaced: replacedFiles(was, is) }, 'restored as it was')
}
