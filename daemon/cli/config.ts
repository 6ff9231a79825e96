import type { Command } from 'commander'
import { defaultConfigPath, loadConfig } from '../config-file.ts'
import { printConfig } from '../core/config.ts'
import { globalOptions, print } from './verb.ts'

export function configCommand(program: Command): void {
  program
    .command('config')
    .description('the configuration of stintd')
    .command('show')
    .description('every setting as the file on this node has it, or its default; fails where stintd would refuse to start')
    .option('--config <path>', 'the file to read', defaultConfigPath)
    .action((options: { config: string }, command: Command) => {
      const config = loadConfig(options.config)
      print(globalOptions(command), config, (one) => printConfig(one).trimEnd())
    })
}
