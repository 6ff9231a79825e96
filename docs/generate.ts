import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Argument, Command, Option } from 'commander'
import { pino } from 'pino'
import type { Context } from '../daemon/context.ts'
import { makeProgram } from '../daemon/cli/program.ts'
import { sampleConfig, settingTable } from '../daemon/core/config.ts'
import { errorKinds, type ErrorKind } from '../daemon/core/errors.ts'
import { fidelity } from '../daemon/core/fidelity.ts'
import { makePeerApi } from '../daemon/http/peer-api.ts'
import { makeRestApi } from '../daemon/http/rest-api.ts'
import type { Api } from '../daemon/http/api.ts'

/** Writes the reference pages and the sample configuration from the tables in the code: `npm run docs`. */

const made = '<!-- Made by `npm run docs`. -->'

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(header), line(header.map(() => '---')), ...rows.map(line)].join('\n')
}

const code = (text: string): string => `\`${text}\``

function page(...blocks: readonly string[]): string {
  return `${blocks.join('\n\n')}\n`
}

function configurationPage(): string {
  const sections = Object.entries(settingTable).flatMap(([section, keys]) => [
    `## [${section}]`,
    table(['key', 'default', 'must be', 'meaning'], Object.entries(keys).map(([key, { default: value, must, doc }]) => [code(key), code(JSON.stringify(value)), must, doc])),
  ])
  return page(
    '# Configuration', made,
    'stintd reads `/etc/stint/stint.toml` (TOML) at its start; `stintd --config PATH` names another file. A file that is missing is an empty one. An unknown key or a value that cannot be is an error that names the key (exit code 78), and stintd does not start. `stint config show` prints every setting as this node has it; a file to start from is `slurm-scripts/snippets/stint.toml`.',
    ...sections,
  )
}

function errorsPage(): string {
  const rows = Object.entries<ErrorKind>(errorKinds).map(([name, { http, exit, retryable, hint }]) => [code(name), String(http), String(exit), retryable ? 'yes' : 'no', hint])
  return page(
    '# Errors', made,
    'Every refusal has a code. The REST API answers `{"code", "message", "hint"}` with the HTTP status below; `stint` prints the same to standard error (with `--json` to standard output as well) and ends with the exit code below. *Again* says whether the same call may succeed later without anybody changing anything. Where a better hint is known than the one below, that is given.',
    table(['code', 'HTTP', 'exit', 'again', 'hint'], rows),
  )
}

function usage(command: Command): string {
  const path: string[] = []
  for (let at: Command | null = command; at !== null; at = at.parent) path.unshift(at.name())
  const words = command.registeredArguments.map((argument) => (argument.required ? `<${argument.name()}>` : `[${argument.name()}]`))
  return [...path, ...words].join(' ')
}

function given(option: Option): string {
  return option.defaultValue === undefined || option.defaultValue === false ? option.description : `${option.description} (default ${code(String(option.defaultValue))})`
}

function verbBlocks(command: Command): string[] {
  if (command.commands.length > 0) return command.commands.flatMap(verbBlocks)
  const rows = [
    ...command.registeredArguments.map((argument: Argument) => [code(argument.required ? `<${argument.name()}>` : `[${argument.name()}]`), argument.description]),
    ...command.options.map((option) => [code(option.flags), given(option)]),
  ]
  return [`## ${code(usage(command))}`, `${command.description()}.`.replace(/^./, (first) => first.toUpperCase()), table(['', 'meaning'], rows)]
}

/** Codes that tell more than "worked", and the errors behind them. */
function exitCodes(): string {
  const byExit = Map.groupBy(Object.entries<ErrorKind>(errorKinds), ([, kind]) => kind.exit)
  const rows = [...byExit].toSorted(([a], [b]) => a - b).map(([exit, kinds]) => [String(exit), kinds.map(([name]) => code(name)).join(', ')])
  return table(['exit code', 'means'], [['0', 'done'], ['1', '`stint doctor` found a fault'], ...rows])
}

function cliPage(): string {
  const program = makeProgram()
  return page(
    '# The command line', made,
    `${program.description()} Tables are for people; \`--json\` before or after the verb prints the same for programs, with the fields of [openapi.json](openapi.json).`,
    table(['option', 'meaning'], program.options.map((option) => [code(option.flags), given(option)])),
    ...program.commands.flatMap(verbBlocks),
    '## Exit codes', exitCodes(),
    'The hint of every error is in [errors.md](errors.md).',
  )
}

async function openapi(make: (context: Context) => Promise<Api>): Promise<string> {
  const api = await make({ log: pino({ level: 'silent' }) } as Context)
  try {
    return `${JSON.stringify(api.swagger(), undefined, 2)}\n`
  } finally {
    await api.close()
  }
}

function sampleFile(): string {
  return `# Configuration of stintd: /etc/stint/stint.toml. Every key stands here with its default; made by \`npm run docs\`.\n\n${sampleConfig().trimEnd()}\n`
}

function fidelityPage(): string {
  const sections = Object.entries(fidelity).flatMap(([section, kinds]) => [
    `## ${section}`,
    table(['kind', 'outcome', 'how', 'shown by'], kinds.map(({ kind, outcome, how, cases }) => [kind, outcome, how, cases.map(code).join(', ')])),
  ])
  return page(
    '# What survives a move', made,
    'What the kernel keeps of a job, and what becomes of it when the job goes on in another allocation. *Put back by us*: recorded at the freeze and set again before the first instruction; what cannot be set is told. *Refused at the save*: `stint check` says so beforehand, and the job runs on. *Told to the owner*: once, on the job\'s standard error and in `stint status`. *Different in silence*: open, and listed so that nobody relies on it. The cases are in `tests/fixtures/moves/`; rows without one were seen by probes on Linux 6.18 with CRIU 4.2.1. The table is `daemon/core/fidelity.ts`.',
    ...sections,
  )
}

/** Texts by their path from the project's root. */
export async function generate(): Promise<Readonly<Record<string, string>>> {
  return {
    'docs/reference/configuration.md': configurationPage(),
    'docs/reference/errors.md': errorsPage(),
    'docs/reference/cli.md': cliPage(),
    'docs/reference/fidelity.md': fidelityPage(),
    'docs/reference/openapi.json': await openapi(makeRestApi),
    'docs/reference/peer-openapi.json': await openapi(makePeerApi),
    'slurm-scripts/snippets/stint.toml': sampleFile(),
  }
}

if (import.meta.main) {
  for (const [path, text] of Object.entries(await generate())) {
    const file = join(import.meta.dirname, '..', path)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  }
}
