import type { AuditAction, AuditChannel } from '../catalogue/audit.ts'
import { asStintError } from '../core/errors.ts'
import type { Trigger } from '../core/states.ts'
import type { Run } from '../catalogue/runs.ts'
import type { Context } from '../context.ts'

/** Who gives an order. */
export interface Actor {
  readonly uid: number | null
  readonly pid: number | null
  readonly channel: AuditChannel
}

/** The daemon itself, as the site and the job's options want it. */
export const daemonItself: Actor = { uid: null, pid: null, channel: 'daemon' }

/** Who stands behind a checkpoint that nobody asked for at a socket. Slurm does not tell who sent a signal. */
export function actorOf(trigger: Trigger): Actor {
  return trigger === 'signal' ? { uid: null, pid: null, channel: 'signal' } : daemonItself
}

/** The job that something was done to. */
interface Subject {
  readonly job: number
  readonly run: string
  readonly owner: number | null
  readonly user: string | null
}

export function subjectOf({ job_id: job, id: run, uid: owner, user }: Run): Subject {
  return { job, run, owner, user }
}

/** What was done. */
interface Deed {
  readonly action: AuditAction
  readonly subject: Subject | undefined
  readonly checkpoint?: number | undefined
  /** By `imageHash`, where the image is about to go. */
  readonly image?: string | undefined
  /** Undefined: it was done. */
  readonly error?: unknown
  readonly detail?: Readonly<Record<string, unknown>> | undefined
}

/** SHA-256 of the manifest of a checkpoint's member 0; undefined where there is none that can be read. */
export function imageHash(context: Context, { job, run }: Pick<Subject, 'job' | 'run'>, checkpoint: number): string | undefined {
  try {
    const image = context.store.find({ job, run, checkpoint, member: 0 })
    return image === undefined ? undefined : context.store.fingerprint(image)
  } catch (error) {
    context.log.warn({ err: asStintError(error), job }, 'an image has no hash for the audit record')
    return undefined
  }
}

/**
 * Puts a deed on record, in this node's catalogue and in the log, which the site may send elsewhere: root of the node can change both
 * (the database refuses it, but belongs to root). A fault here keeps nothing from being done; it is logged.
 */
export function audit(context: Context, by: Actor, { action, subject, checkpoint, image, error, detail = {} }: Deed): void {
  try {
    const entry = {
      at: Date.now(), uid: by.uid, pid: by.pid, channel: by.channel, action,
      job: subject?.job ?? null, run: subject?.run ?? null, owner: subject?.owner ?? null, user: subject?.user ?? null, checkpoint: checkpoint ?? null,
      image: image ?? (subject === undefined || checkpoint === undefined ? undefined : imageHash(context, subject, checkpoint)) ?? null,
      outcome: error === undefined ? 'done' : asStintError(error).code, detail,
    }
    context.catalogue.audit.add(entry)
    context.log.info({ audit: entry }, 'audit')
  } catch (cause) {
    context.log.error({ err: asStintError(cause), action, job: subject?.job }, 'the audit record could not be written')
  }
}
