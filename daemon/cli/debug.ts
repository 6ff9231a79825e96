import type { Command } from 'commander'
import { defaultConfigPath, loadConfig } from '../config-file.ts'
import { StintError } from '../core/errors.ts'
import { nodeName } from '../linux/node-name.ts'
import { packDebugBundle, type DebugBundle } from './debug-bundle.ts'
import { globalOptions, jobId, print } from './verb.ts'

function text({ file, parts, missing }: DebugBundle): string {
  const without = Object.entries(missing).map(([name, why]) => `\n  without ${name}: ${why.split('\n', 1)[0] ?? ''}`)
  return `${file}: ${parts.length} files. It has names, paths and command lines of the job, nothing of its memory or files; look through it before you pass it on.${without.join('')}`
}

export function debugCommand(program: Command): void {
  program
    .command('debug')
    .description("pack logs, catalogue rows, manifests and versions about a job into an archive, without the job's memory; root only, also while stintd is down")
    .argument('<job>', 'Slurm job id', jobId)
    .option('--output <file>', 'the archive; stint-debug-JOB-NODE.tar.gz here unless told')
    .option('--config <path>', 'the configuration of stintd', defaultConfigPath)
    .action(async (job: number, options: { output?: string; config: string }, command: Command) => {
      if (process.geteuid?.() !== 0) throw new StintError('E_FORBIDDEN', 'only root can read the logs of jobs', { hint: 'Ask your admin.' })
      const global = globalOptions(command)
      const file = options.output ?? `stint-debug-${job}-${nodeName()}.tar.gz`
      print(global, await packDebugBundle({ job, config: loadConfig(options.config), configPath: options.config, socket: global.socket }, file), text)
    })
}
