import type { Command } from 'commander'
import type { ImageView } from '../http/schemas.ts'
import { call } from './client.ts'
import { bytes, seconds, table } from './format.ts'
import { globalOptions, jobId, print } from './verb.ts'

function text(images: readonly ImageView[]): string {
  if (images.length === 0) return 'No images.'
  const odd = images.filter((i) => i.state !== 'sealed')
  const rows = images.map((i) => [String(i.job), i.user ?? '-', String(i.checkpoint), i.state, i.trigger ?? '-', i.node ?? '-', String(i.members ?? '-'), new Date(i.createdAt).toISOString().slice(0, 19), bytes(i.bytes), seconds(i.seconds)])
  return `${table(['JOB', 'USER', 'NO', 'STATE', 'TRIGGER', 'NODE', 'MEMBERS', 'SEALED (UTC)', 'SIZE', 'TIME'], rows)}${odd.map((i) => `\n${i.directory}: ${i.error ?? ''}`).join('')}`
}

export function imagesCommand(program: Command): void {
  program
    .command('images')
    .description('images in the store, of one job or of all; a forged one, which no key of the site vouches for, is never restored')
    .argument('[job]', 'Slurm job id', jobId)
    .action(async (job: number | undefined, _options: unknown, command: Command) => {
      const global = globalOptions(command)
      const images = await call<ImageView[]>(global.socket, 'GET', `/v1/images${job === undefined ? '' : `?job=${job}`}`)
      print(global, images, text)
    })
}
