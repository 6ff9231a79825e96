import { statSync } from 'node:fs'
import type { Obstacle } from '../core/obstacles.ts'
import type { CopyLimit } from '../linux/bounded-copy.ts'
import { unlessGone } from '../linux/processes.ts'
import type { Context, Sandbox } from '../context.ts'

/** The job script travels with the image; its owner can write to it while the job runs. */
export function scriptLimit(context: Context): CopyLimit {
  return { what: 'the job script', bytes: context.config.limits.script_mb * 1e6, setting: 'limits.script_mb' }
}

/** Found before anything is frozen; enforced again while it is copied. */
export function scriptObstacles(context: Context, { pid1, run: { script } }: Sandbox): Obstacle[] {
  const stat = script === '' ? undefined : unlessGone(() => statSync(`${pid1.proc}/root${script}`))
  const limit = scriptLimit(context)
  if (stat === undefined || (stat.isFile() && stat.size <= limit.bytes)) return []
  const found = stat.isFile() ? `has ${Math.ceil(stat.size / 1e6)} MB, more than ${limit.bytes / 1e6} (${limit.setting})` : 'is no regular file any more'
  return [{ kind: 'script-limit', message: `the job script ${script} ${found}, and must travel with the image`, remedy: 'Make it what it was, and keep data in files of their own.' }]
}
