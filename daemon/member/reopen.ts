import type { Context, Sandbox } from '../context.ts'

/** What was shut for a checkpoint or a restore is open again: the gate first, so that who asks finds the others. */
export async function reopen(context: Context, sandbox: Sandbox): Promise<void> {
  if (sandbox.network !== undefined) await context.network.openGate(sandbox.pid1)
  await sandbox.post?.open()
}
