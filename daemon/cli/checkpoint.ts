import type { Command } from 'commander'
import type { CheckpointView } from '../http/schemas.ts'
import { call } from './client.ts'
import { bytes, seconds } from './format.ts'
import { globalOptions, jobId, print } from './verb.ts'

export function checkpointCommand(program: Command): void {
  program
    .command('checkpoint')
    .description('save a job now; without --keep-running it ends here and is requeued')
    .argument('<job>', 'Slurm job id', jobId)
    .option('--keep-running', 'the job goes on after it was saved', false)
    .action(async (job: number, options: { keepRunning: boolean }, command: Command) => {
      const global = globalOptions(command)
      const made = await call<CheckpointView>(global.socket, 'POST', `/v1/runs/${job}/checkpoints`, { keepRunning: options.keepRunning })
      const next = options.keepRunning ? 'the job goes on' : 'the job is requeued'
      print(global, made, ({ number, bytes: size, seconds: took }) => `Job ${job} saved as checkpoint ${number}: ${bytes(size)} in ${seconds(took)}; ${next}.`)
    })
}
