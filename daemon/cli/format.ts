/** Short tables and figures for people. */

export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)))
  return [header, ...rows].map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd()).join('\n')
}

export function bytes(value: number | null): string {
  if (value === null) return '-'
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let at = 0
  let rest = value
  while (rest >= 1000 && at < units.length - 1) {
    rest /= 1000
    at++
  }
  return `${rest.toFixed(at === 0 || rest >= 100 ? 0 : 1)} ${units[at] ?? ''}`
}

export function seconds(value: number | null): string {
  return value === null ? '-' : `${value.toFixed(2)} s`
}

/** `20:15:07`, local. */
export function clock(milliseconds: number | null): string {
  return milliseconds === null ? '-' : new Date(milliseconds).toTimeString().slice(0, 8)
}

/** Exit code or signal out of a wait status (waitpid(2)). */
export function waitStatus(status: number | null): string {
  if (status === null) return '-'
  return (status & 0x7f) === 0 ? `exit ${(status >> 8) & 0xff}` : `signal ${status & 0x7f}`
}
