import type { Command } from 'commander'
import { errorKinds } from '../core/errors.ts'
import type { CheckView } from '../http/schemas.ts'
import { call } from './client.ts'
import { bytes, seconds } from './format.ts'
import { globalOptions, jobId, print } from './verb.ts'

function text(found: CheckView): string {
  const head = `Job ${found.job}: ${found.processes} processes, ${bytes(found.bytes)} to save, about ${seconds(found.predictedSeconds)}.`
  const carried = found.carried.length === 0 ? [] : ['Carried with the image, as they exist on this node only:', ...found.carried.map((path) => `  ${path}`)]
  const obstacles = found.obstacles.length === 0 ? ['It can be saved.'] : ['It cannot be saved as it stands:', ...found.obstacles.map((o) => `  ${o.message}\n    ${o.remedy}`)]
  return [head, ...carried, ...obstacles].join('\n')
}

export function checkCommand(program: Command): void {
  program
    .command('check')
    .description('whether a running job can be saved, and what that would cost')
    .argument('<job>', 'Slurm job id', jobId)
    .action(async (job: number, _options: unknown, command: Command) => {
      const global = globalOptions(command)
      const found = await call<CheckView>(global.socket, 'GET', `/v1/runs/${job}/check`)
      print(global, found, text)
      if (found.obstacles.length > 0) process.exitCode = errorKinds.E_PREFLIGHT.exit
    })
}
