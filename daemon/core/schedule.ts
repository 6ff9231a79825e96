/** Periodic checkpoints: what users and sites write, and the interval that costs least. */

/** From `--stint=every=...` and the site's `schedule.every`. */
export type Every = { readonly kind: 'never' } | { readonly kind: 'auto' } | { readonly kind: 'interval'; readonly seconds: number }

/** `never`, `auto`, or a number with its unit: seconds, minutes, hours, days. POSIX and JavaScript read it alike. */
export const everyForm = /^(never|auto|[1-9][0-9]{0,3}[smhd])$/

const unitSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }

/** @param text matches `everyForm` */
export function parseEvery(text: string): Every {
  if (text === 'never' || text === 'auto') return { kind: text }
  return { kind: 'interval', seconds: Number(text.slice(0, -1)) * (unitSeconds[text.slice(-1)] ?? 1) }
}

/**
 * Cron's five fields of numbers, `_` for blanks and `+` for commas: both mean something in `#SBATCH --stint=KEY=VALUE,...`. What no
 * clock shows (hour 25) is found when the job starts.
 */
export const cronForm = /^([*]|[1-5]?[0-9](-[1-5]?[0-9])?)(\/[1-9][0-9]?)?([+]([*]|[1-5]?[0-9](-[1-5]?[0-9])?)(\/[1-9][0-9]?)?)*(_([*]|[1-5]?[0-9](-[1-5]?[0-9])?)(\/[1-9][0-9]?)?([+]([*]|[1-5]?[0-9](-[1-5]?[0-9])?)(\/[1-9][0-9]?)?)*){4}$/

/** The expression as cron has it. @param text matches `cronForm` */
export function cronExpression(text: string): string {
  return text.replaceAll('_', ' ').replaceAll('+', ',')
}

/**
 * The interval between checkpoints that loses the least time to checkpoints and repeated work together, seconds: Daly's
 * second-order estimate (J. T. Daly, Future Generation Computer Systems 22, 2006, eq. 37), which is Young's sqrt(2CM) for C much
 * smaller than M.
 * @param cost seconds that one checkpoint stops the job
 * @param mtbf mean seconds between failures of any node of the job
 */
export function youngDaly(cost: number, mtbf: number): number {
  if (cost >= 2 * mtbf) return mtbf
  const ratio = cost / (2 * mtbf)
  return Math.sqrt(2 * cost * mtbf) * (1 + Math.sqrt(ratio) / 3 + ratio / 9) - cost
}

/** Of an interval, the part by which it is shortened or lengthened at random, so that jobs of one age do not write at once. */
const jitterPart = 0.1

/** @param random from 0 to 1 */
export function withJitter(seconds: number, random: number): number {
  return seconds * (1 + jitterPart * (2 * random - 1))
}
