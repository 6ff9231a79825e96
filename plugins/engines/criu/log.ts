const harmless = [/RLIMIT_NOFILE/, /tun: Unable/]

/** The first line of a CRIU log that is a real error, without its time stamp. */
export function firstError(logText: string): string | undefined {
  const line = logText.split('\n').find((l) => l.includes('Error (') && !harmless.some((h) => h.test(l)))
  return line?.replace(/^\([\d.]+\)\s*(\d+:)?\s*/, '').trim()
}

/** What the job's owner can do about an error line. */
export function remedyFor(errorLine: string): string | undefined {
  return errorLine === '' ? undefined : undefined
}
