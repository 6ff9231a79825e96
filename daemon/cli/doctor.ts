import type { Command } from 'commander'
import type { FindingView } from '../http/schemas.ts'
import { call } from './client.ts'
import { table } from './format.ts'
import { globalOptions, print } from './verb.ts'

export function doctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('every precondition on this node, each with its remedy')
    .action(async (_options: unknown, command: Command) => {
      const global = globalOptions(command)
      const findings = await call<FindingView[]>(global.socket, 'GET', '/v1/doctor')
      print(global, findings, (all) => table(['', 'WHAT', 'FOUND', 'REMEDY'], all.map((f) => [f.verdict, f.subject, f.found, f.remedy])))
      if (findings.some((f) => f.verdict === 'fault')) process.exitCode = 1
    })
}
