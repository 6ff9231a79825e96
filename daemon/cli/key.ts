import type { Command } from 'commander'
import { defaultConfigPath, loadConfig } from '../config-file.ts'
import { StintError } from '../core/errors.ts'
import { drop, rotate, stage, type StoreKeys } from '../core/store-keys.ts'
import type { AdoptedView, ImageView } from '../http/schemas.ts'
import { changeKeys, createKeys, newKey, readKeys } from '../key-file.ts'
import { call } from './client.ts'
import { table } from './format.ts'
import { globalOptions, jobId, print, type Global } from './verb.ts'

/** What may be told of the keys. */
interface KeysShown {
  readonly file: string
  readonly keys: readonly { readonly id: string; readonly use: string; readonly madeAt: string }[]
}

function show(global: Global, file: string, keys: StoreKeys, note = ''): void {
  const shown: KeysShown = { file, keys: keys.map(({ id, use, madeAt }) => ({ id, use, madeAt })) }
  const rows = shown.keys.map(({ id, use, madeAt }) => [id, use, madeAt])
  print(global, shown, () => `${rows.length === 0 ? `No key: there is no ${file}.` : table(['KEY', 'USE', 'MADE'], rows)}${note === '' ? '' : `\n${note}`}`)
}

/** @throws StintError E_FORBIDDEN: others would learn by an unlike error what only root may know */
function requireRoot(): void {
  if (process.geteuid?.() !== 0) throw new StintError('E_FORBIDDEN', "only root may see or change the site's keys", { hint: 'Ask your admin.' })
}

interface FileOptions {
  readonly config: string
}

/** Verbs on the key file of this node. No secret is ever printed. */
function onFile(command: Command): Command {
  return command.option('--config <path>', 'the configuration that names the key file (store.key_file)', defaultConfigPath)
}

/** @throws StintError E_BAD_REQUEST while images can be read with this key alone */
async function assertUnused(socket: string, id: string): Promise<void> {
  const images = await call<ImageView[]>(socket, 'GET', '/v1/images')
  const used = images.filter(({ key }) => key === id)
  if (used.length === 0) return
  const jobs = [...new Set(used.map(({ job }) => job))]
  throw new StintError('E_BAD_REQUEST', `${used.length} images are sealed with key ${id}, of job ${jobs.slice(0, 10).join(', ')}${jobs.length > 10 ? ' and others' : ''}`, {
    hint: '`stint key adopt` seals them with the present key; --force drops the key all the same, and these jobs cannot be continued.',
  })
}

function adoptedText(adopted: readonly AdoptedView[]): string {
  if (adopted.length === 0) return 'Nothing to adopt: the present key vouches for every image, or for none that can be trusted.'
  return table(['JOB', 'NO', 'MEMBER', 'RESULT'], adopted.map((one) => [String(one.job), String(one.checkpoint), String(one.member), one.error ?? 'adopted']))
}

export function keyCommand(program: Command): void {
  const key = program.command('key').description("the site's keys, which vouch for images")
  const keyFile = (options: FileOptions): string => {
    requireRoot()
    return loadConfig(options.config).store.key_file
  }
  onFile(key.command('init'))
    .description('make the key file; an existing one is never overwritten')
    .option('--stage', 'the key is accepted only, and used after the next `stint key rotate`: for copying it to every node first', false)
    .action((options: FileOptions & { stage: boolean }, command: Command) => {
      const file = keyFile(options)
      const keys = [newKey(options.stage ? 'next' : 'seal')]
      createKeys(file, keys)
      const next = options.stage
        ? 'Copy the file to every node, then `stint key rotate`.'
        : 'Copy the file to every node. Images from before it are refused from now on; `stint key adopt` has the key vouch for them.'
      show(globalOptions(command), file, keys, next)
    })
  onFile(key.command('status'))
    .description('the keys in the key file, without their secrets')
    .action((options: FileOptions, command: Command) => {
      const file = keyFile(options)
      show(globalOptions(command), file, readKeys(file) ?? [])
    })
  onFile(key.command('rotate'))
    .description('seal with the staged key, or else with a new one, from now on; the old one stays accepted')
    .option('--stage', 'make the new key, which is accepted only until the next `stint key rotate`', false)
    .action((options: FileOptions & { stage: boolean }, command: Command) => {
      const file = keyFile(options)
      const keys = changeKeys(file, (now) => (options.stage ? stage(now, newKey('next')) : rotate(now, newKey('seal'))))
      show(globalOptions(command), file, keys, `Copy the file to every node${options.stage ? ', then `stint key rotate` on one of them, and copy it again' : ''}.`)
    })
  onFile(key.command('drop'))
    .description('accept a key no longer; images that only it vouches for cannot be restored any more')
    .argument('<id>', 'of the key')
    .option('--force', 'also while images are sealed with it, and without asking stintd', false)
    .action(async (id: string, options: FileOptions & { force: boolean }, command: Command) => {
      const file = keyFile(options)
      const global = globalOptions(command)
      if (!options.force) await assertUnused(global.socket, id)
      show(global, file, changeKeys(file, (now) => drop(now, id)), 'Copy the file to every node.')
    })
  key.command('adopt')
    .description('have the present key vouch for images of one job or of all that were made before there was a key, or that an older one vouches for: only when you trust what is in the store now')
    .argument('[job]', 'Slurm job id', jobId)
    .action(async (job: number | undefined, _options: unknown, command: Command) => {
      const global = globalOptions(command)
      const adopted = await call<AdoptedView[]>(global.socket, 'POST', '/v1/images/adopt', job === undefined ? {} : { job })
      print(global, adopted, adoptedText)
      if (adopted.some(({ error }) => error !== null)) process.exitCode = 1
    })
}
