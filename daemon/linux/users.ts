import { readFileSync } from 'node:fs'

/** Login name of a uid as /etc/passwd has it, or the number: names are for people, rights go by uid. */
export function userName(uid: number): string {
  const line = readFileSync('/etc/passwd', 'utf8').split('\n').find((l) => l.split(':')[2] === String(uid))
  return line?.split(':')[0] ?? String(uid)
}
