import { readFileSync } from 'node:fs'
import { parse } from 'smol-toml'
import { resolveConfig, type Config } from './core/config.ts'
import { StintError, systemCode } from './core/errors.ts'

export const defaultConfigPath = '/etc/stint/stint.toml'

/** Reads a TOML file; an absent file is an empty one. @throws StintError E_BAD_CONFIG */
export function loadConfig(path: string): Config {
  let text = ''
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw new StintError('E_BAD_CONFIG', `${path} cannot be read`, { cause: error })
  }
  try {
    return resolveConfig(parse(text))
  } catch (error) {
    if (systemCode(error) === 'E_BAD_CONFIG') throw error
    throw new StintError('E_BAD_CONFIG', `${path}: ${(error as Error).message}`, { cause: error })
  }
}
