import { placeOf, type FileRules } from '../core/file-places.ts'
import { ownProcess } from '../linux/held-process.ts'
import { mountOfPath, mountsOf } from '../linux/mounts.ts'
import type { Context } from '../context.ts'

/** What the site says of its directories. */
export function fileRules({ config: { files } }: Pick<Context, 'config'>): FileRules {
  return { sharedPaths: files.shared_paths, systemPaths: files.system_paths }
}

/** Whether images made here stay here: no other node can continue from them. Told by the file system and files.shared_paths. */
export function isStoreLocal(context: Context): boolean {
  const { path } = context.config.store
  return placeOf(path, mountOfPath(mountsOf(ownProcess), path)?.type, true, fileRules(context)) !== 'shared'
}

/** Images that stay here need the job to come back here. Where Slurm will not have that, another node holds the job, and says why. */
export async function keepHere(context: Context, jobId: number): Promise<void> {
  if (!isStoreLocal(context)) return
  await context.scontrol.requireNodes(jobId, [context.node]).catch((error: unknown) => { context.log.error({ job: jobId, err: error }, 'the job was not kept on this node, which has its image') })
}
