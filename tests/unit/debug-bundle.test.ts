import { beforeAll, describe, expect, test } from '@jest/globals'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { cataloguePath } from '../../daemon/core/config.ts'
import { packDebugBundle, type BundleSource } from '../../daemon/cli/debug-bundle.ts'
import { useApi } from '../support/api.ts'
import { refusal } from '../support/errors.ts'

/** What `stint debug` packs about a job, on a real daemon's socket and catalogue. */

const api = useApi(({ context: { catalogue, config }, folder, addRun }) => {
  addRun(6, {})
  addRun(7, {})
  const { id } = catalogue.checkpoints.begin('run-6', 2, 'request', true, 1000)
  catalogue.checkpoints.giveUp(id, 'E_STORE_FULL', 'the store is full')
  catalogue.events.add('run-7', 1, 'sealed', {})
  const { state_dir: state } = config.paths
  for (const directory of [`${state}/engine/6`, `${state}/engine/7`, `${config.store.path}/6/2/m0/criu`]) mkdirSync(directory, { recursive: true })
  writeFileSync(`${state}/engine/6/dump.log`, 'what CRIU said')
  writeFileSync(`${state}/engine/7/dump.log`, 'of another job')
  writeFileSync(join(folder, 'secret'), 'not ours to show')
  symlinkSync(join(folder, 'secret'), `${state}/engine/6/linked.log`)
  writeFileSync(`${config.store.path}/6/2/m0/manifest.json`, '{"job": 6}')
  writeFileSync(`${config.store.path}/6/2/m0/criu/pages-1.img`, 'memory of the job')
  writeFileSync(join(folder, 'stint.toml'), '[store]')
})
let source: BundleSource
let folder: string

beforeAll(() => {
  const { made, socketPath } = api()
  folder = made.folder
  source = { job: 6, config: made.context.config, configPath: join(folder, 'stint.toml'), socket: socketPath }
})

async function unpacked(file: string): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'unpacked-'))
  await execa('tar', ['--extract', '--gzip', `--file=${file}`, '--directory', directory])
  return join(directory, 'stint-debug-6')
}

describe('a debug bundle', () => {
  test("has the job's rows, logs, manifests and what the daemon says, and nothing of its memory, of other jobs, or behind links", async () => {
    const file = join(folder, 'bundle.tar.gz')
    const { parts } = await packDebugBundle(source, file)
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(parts).toEqual(expect.arrayContaining(['versions.json', 'stint.toml', 'rows.json', 'engine/dump.log', 'manifests/2/m0/manifest.json', 'status.json', 'images.json', 'doctor.json', 'health.json', 'missing.json']))
    const directory = await unpacked(file)
    expect(readFileSync(join(directory, 'engine/dump.log'), 'utf8')).toBe('what CRIU said')
    const rows = JSON.parse(readFileSync(join(directory, 'rows.json'), 'utf8')) as Record<string, unknown[]>
    expect(rows).toMatchObject({ runs: [{ job_id: 6 }], checkpoints: [{ number: 2, error_code: 'E_STORE_FULL' }], events: [] })
    expect(JSON.parse(readFileSync(join(directory, 'status.json'), 'utf8'))).toMatchObject({ job: 6 })
    const all = (await execa('grep', ['--recursive', '--files-with-matches', '-e', 'memory of the job', '-e', 'not ours', '-e', 'of another job', directory], { reject: false })).stdout
    expect(all).toBe('')
    rmSync(directory, { recursive: true })
  }, 60_000)

  test('is made of what there is when the daemon does not answer, and says what is missing', async () => {
    const socket = join(folder, 'hangs.sock')
    const hanging = createServer(() => undefined).listen(socket)
    const file = join(folder, 'without.tar.gz')
    const { parts, missing } = await packDebugBundle({ ...source, socket, patienceSeconds: 1 }, file)
    hanging.close()
    expect(parts).toEqual(expect.arrayContaining(['rows.json', 'engine/dump.log']))
    expect(missing['status.json']).toMatch(/abort|time/i)
    rmSync(file)
  }, 60_000)

  test('does not overwrite a file, and needs the catalogue of no daemon to be there', async () => {
    expect(await refusal(async () => packDebugBundle(source, join(folder, 'stint.toml')))).toMatchObject({ code: 'E_BAD_REQUEST' })
    expect(readFileSync(join(folder, 'stint.toml'), 'utf8')).toBe('[store]')
    const file = join(folder, 'nothing.tar.gz')
    const config = { ...source.config, paths: { ...source.config.paths, state_dir: join(folder, 'absent') } }
    expect(cataloguePath(config)).toMatch(/absent/)
    expect((await packDebugBundle({ ...source, config }, file)).missing).toMatchObject({ 'rows.json': expect.any(String) as unknown, 'engine/': expect.stringMatching(/ENOENT/) as unknown })
  }, 60_000)
})
