import { asStintError } from '../core/errors.ts'
import { numberWord, type Message } from '../core/wire.ts'
import { announce } from '../slurm/job-records.ts'
import { closeSandbox } from '../member/close.ts'
import type { Context } from '../context.ts'
import { closeEnded } from './recover.ts'

/**
 * A job is about to start here: what slurmctld knows of it is asked for, and the image it will most likely go on from is compared with its manifest, and so read into memory,
 * beside what slurmd still has to do. The restore waits for that comparison and relies on it while no file was touched since;
 * what it finds wrong is told by the restore alone, which looks again.
 */
async function prepareJob(context: Context, jobId: number): Promise<void> {
  announce(context, jobId)
  const image = context.store.list(jobId)[0]
  // Of a job of several nodes it is not known yet which image belongs here.
  if (image === undefined || image.manifest.members.length > 1) return
  const started = Date.now()
  await context.store.verify(image)
  context.log.info({ job: jobId, checkpoint: image.manifest.checkpoint, seconds: (Date.now() - started) / 1000 }, 'image verified before its restore')
}

/** No process of the job is left on this node: neither may anything of its sandboxes be, whoever saw them end. */
async function clearJob(context: Context, jobId: number): Promise<void> {
  for (const member of context.catalogue.members.alive()) {
    if (context.catalogue.runs.get(member.run_id)?.job_id !== jobId || context.kernel.isAlive(member.guard_pid, member.guard_start) || context.closing.has(member.id)) continue
    const sandbox = context.sandboxes.get(jobId)
    if (sandbox === undefined) await closeEnded(context, member)
    else await closeSandbox(context, sandbox, null)
  }
}

/** What Prolog and Epilog say: nobody waits for an answer, so faults are logged and no more. */
export async function answerHook(context: Context, message: Message): Promise<void> {
  const jobId = numberWord(message, 'job')
  if (jobId === undefined) return
  try {
    await (message.verb === 'prolog' ? prepareJob : clearJob)(context, jobId)
  } catch (error) {
    context.log.warn({ err: asStintError(error), job: jobId, hook: message.verb }, 'hook')
  }
}
