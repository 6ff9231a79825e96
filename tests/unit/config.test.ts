import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parse } from 'smol-toml'
import { loadConfig } from '../../daemon/config-file.ts'
import { printConfig, resolveConfig, sampleConfig } from '../../daemon/core/config.ts'
import { said } from '../support/errors.ts'

const defaults = resolveConfig({})

describe('a configuration', () => {
  test('that is empty has every default', () => {
    expect(defaults.paths.socket).toBe('/run/stint/stintd.sock')
    expect(defaults.deadline).toEqual({ margin_seconds: 2, safety: 3, assumed_mb_per_second: 200 })
  })

  test('keeps defaults beside what it sets', () => {
    const { store, deadline } = resolveConfig(parse('[deadline]\nmargin_seconds = 0.5\n[store]\npath = "/shared/x"'))
    expect(deadline).toEqual({ ...defaults.deadline, margin_seconds: 0.5 })
    expect(store).toEqual({ ...defaults.store, path: '/shared/x' })
  })

  test.each([
    ['[stor]\npath = "/x"', 'E_BAD_CONFIG: unknown section [stor]; did you mean [store]?'],
    ['[store]\npaht = "/x"', 'E_BAD_CONFIG: unknown key store.paht; did you mean store.path?'],
    ['[deadline]\nmargin = 3', 'E_BAD_CONFIG: unknown key deadline.margin; did you mean deadline.margin_seconds?'],
    ['[checkpoint]\ntimeout_second = 3', 'E_BAD_CONFIG: unknown key checkpoint.timeout_second; did you mean checkpoint.timeout_seconds?'],
    ['[toString]', 'E_BAD_CONFIG: unknown section [toString]; did you mean [store]?'],
    ['[store]\nconstructor = 1', 'E_BAD_CONFIG: unknown key store.constructor; did you mean'],
    ['store = "/x"', 'E_BAD_CONFIG: store must be a section: [store]'],
    ['store = []', 'E_BAD_CONFIG: store must be a section: [store]'],
    ['[[store]]', 'E_BAD_CONFIG: store must be a section: [store]'],
    ['store = 2026-11-23', 'E_BAD_CONFIG: store must be a section: [store]'],
    ['[store]\npath = 5', 'E_BAD_CONFIG: store.path must be an absolute path, like "/var/lib/stint/store", not 5'],
    ['[store]\npath = ""', 'E_BAD_CONFIG: store.path must be an absolute path'],
    ['[programs]\ncriu = "criu"', 'E_BAD_CONFIG: programs.criu must be an absolute path, like "/usr/sbin/criu", not "criu"'],
    ['[files]\nshared_paths = "/x"', 'E_BAD_CONFIG: files.shared_paths must be absolute paths, like [], not "/x"'],
    ['[files]\nshared_paths = ["/x", 1]', 'E_BAD_CONFIG: files.shared_paths must be absolute paths'],
    ['[files]\nshared_paths = ["x"]', 'E_BAD_CONFIG: files.shared_paths must be absolute paths'],
    ['[deadline]\nmargin_seconds = "5"', 'E_BAD_CONFIG: deadline.margin_seconds must be 0 or more, like 2, not "5"'],
    ['[deadline]\nmargin_seconds = -1', 'E_BAD_CONFIG: deadline.margin_seconds must be 0 or more'],
    ['[deadline]\nmargin_seconds = nan', 'E_BAD_CONFIG: deadline.margin_seconds must be 0 or more, like 2, not NaN'],
    ['[deadline]\nmargin_seconds = inf', 'E_BAD_CONFIG: deadline.margin_seconds must be 0 or more, like 2, not Infinity'],
    ['[deadline]\nassumed_mb_per_second = 0', 'E_BAD_CONFIG: deadline.assumed_mb_per_second must be 1 or more'],
    ['[restore]\nattempts = 1.5', 'E_BAD_CONFIG: restore.attempts must be a whole number from 1'],
    ['[restore]\nattempts = 0', 'E_BAD_CONFIG: restore.attempts must be a whole number from 1'],
    ['[network]\nmtu = 100', 'E_BAD_CONFIG: network.mtu must be 0 or a whole number from 1280 to 65535'],
    ['[network]\npool = "10.0.0.1/8"', 'E_BAD_CONFIG: network.pool must be an aligned IPv4 prefix from /8 to /23'],
    ['[network]\npool = "fd00::/8"', 'E_BAD_CONFIG: network.pool must be an aligned IPv4 prefix from /8 to /23'],
  ])('%j is refused and the key is named', async (text, expected) => {
    expect(await said(() => resolveConfig(parse(text)))).toContain(expected)
  })

  test('comes back from what is printed', () => {
    const odd = resolveConfig({ store: { path: '/a "b"\\c\n\u007f\u0001é' }, files: { shared_paths: ['/x', "/it's"] }, deadline: { safety: 1.25 } })
    expect(resolveConfig(parse(printConfig(odd)))).toEqual(odd)
  })

  test('printed has the meaning above every key', () => {
    expect(printConfig(defaults)).toContain('[store]\n# image store; on a shared file system, or jobs can only continue on the same node\npath = "/var/lib/stint/store"\n')
  })

  test('to start from changes nothing, and has every key with its default when its comment signs go', () => {
    expect(resolveConfig(parse(sampleConfig()))).toEqual(defaults)
    expect(sampleConfig().replace(/^#(?! )/gm, '')).toBe(printConfig(defaults))
  })
})

describe('the configuration file', () => {
  let folder: string

  beforeAll(() => { folder = mkdtempSync(join(tmpdir(), 'stint-config-')) })
  afterAll(() => { rmSync(folder, { recursive: true }) })

  function write(text: string): string {
    writeFileSync(join(folder, 'stint.toml'), text)
    return join(folder, 'stint.toml')
  }

  test('may be absent or empty', () => {
    expect(loadConfig(join(folder, 'none.toml'))).toEqual(defaults)
    expect(loadConfig(write(''))).toEqual(defaults)
  })

  test('cut off in the middle is refused with its path and line', async () => {
    const path = write('[store]\npath = "/sha')
    expect(await said(() => loadConfig(path))).toMatch(new RegExp(`^E_BAD_CONFIG: ${path}: .*`))
  })

  test('that is a directory is refused with its path', async () => {
    mkdirSync(join(folder, 'd.toml'))
    expect(await said(() => loadConfig(join(folder, 'd.toml')))).toBe(`E_BAD_CONFIG: ${folder}/d.toml cannot be read`)
  })

  test('with a wrong key keeps the nearest one in its error', async () => {
    const path = write('[slurm]\ntimeout_secs = 1')
    expect(await said(() => loadConfig(path))).toBe('E_BAD_CONFIG: unknown key slurm.timeout_secs; did you mean slurm.timeout_seconds?')
  })
})
