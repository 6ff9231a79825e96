import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { Value } from 'typebox/value'
import { parseKnownHosts } from '../../daemon/cluster/known-hosts.ts'
import { readAnswer } from '../../daemon/core/answer.ts'
import { isStintError, type ErrorCode } from '../../daemon/core/errors.ts'
import { addLaunch, addOutput, addSignal, emptyBook, endLaunch, LaunchBook, loseMember, news, nextOrder, orderBody } from '../../daemon/core/launch-book.ts'
import { parseCpuList, parseCpuMask, parseLedger, readFailures, readRecord, threadObstacles } from '../../daemon/core/ledger.ts'
import { LineReader } from '../../daemon/core/line-reader.ts'
import { parseManifest } from '../../daemon/core/manifest.ts'
import { parseOptions } from '../../daemon/core/options.ts'
import { excluder, parseRollback } from '../../daemon/core/rollback.ts'
import { optionsLike } from '../../daemon/core/sbatch-options.ts'
import { parseFindings } from '../../daemon/core/tcp-losses.ts'
import { decodeLine, encodeLine, maxLineBytes, numberWord } from '../../daemon/core/wire.ts'
import { parseCgroupMounts, parseCgroupPlaces } from '../../daemon/linux/cgroups.ts'
import { parseMounts } from '../../daemon/linux/mounts.ts'
import { parseListeners, parseTcp } from '../../daemon/linux/tcp.ts'
import { parseUnixListeners } from '../../daemon/linux/unix-listeners.ts'
import { LetterReader, type Letter } from '../../daemon/member/letter-reader.ts'
import { parseJobJson } from '../../daemon/slurm/job-json.ts'
import type { SlurmJob } from '../../daemon/slurm/job.ts'
import { parseAdminComment, parseConfig, parseJob, parseNodes, parsePlaces } from '../../daemon/slurm/scontrol.ts'
import { parseJobStates, parseNodeJobs } from '../../daemon/slurm/squeue.ts'
import { withoutSizes } from '../../plugins/engines/criu/images.ts'
import { firstError, isPassing, remedyFor, unknownError } from '../../plugins/engines/criu/log.ts'
import { unmended } from '../../plugins/engines/criu/preload.ts'
import { binaries, cuts, cutInto, documents, texts } from './mutate.ts'

/** A parser under test: inputs, and what must hold for each. */
export interface Target {
  readonly name: string
  readonly input: fc.Arbitrary<unknown>
  /** @throws whatever must not be */
  readonly run: (input: unknown) => void
}

function target<T>(name: string, input: fc.Arbitrary<T>, run: (input: T) => void): Target {
  return { name, input, run: (given) => { run(given as T) } }
}

function mustHold(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what)
}

/** @returns undefined where the parser refused as it is documented to; every other error passes through */
function refusedWith<T>(codes: readonly ErrorCode[], parse: () => T): T | undefined {
  try {
    return parse()
  } catch (error) {
    if (isStintError(error) && codes.includes(error.code)) return undefined
    throw error
  }
}

const fixtures = join(import.meta.dirname, '../fixtures')
const recorded = (name: string): string => readFileSync(join(fixtures, 'recorded', name), 'utf8')
const linesOf = (name: string): string[] => recorded(name).split('\n').filter((line) => line !== '')
const filesOf = (folder: string, ending: string): string[] => readdirSync(join(fixtures, folder)).filter((name) => name.endsWith(ending)).map((name) => readFileSync(join(fixtures, folder, name), 'utf8'))

// Lines and letters.

const proseKeys = ['text', 'message']
/** Keys stand in the order of their first value, prose last. */
function plainWords(line: string): Record<string, readonly string[]> | undefined {
  const message = decodeLine(line)
  return message === undefined ? undefined : Object.fromEntries([...message.words].filter(([key]) => !proseKeys.includes(key)))
}

function checkLine(line: string): void {
  const message = decodeLine(line)
  if (message === undefined) return
  mustHold(/^[a-z-]+$/.test(message.verb), 'a verb is of small letters')
  const number = numberWord(message, 'job')
  mustHold(number === undefined || (Number.isSafeInteger(number) && number >= 0), 'a number is whole and not negative')
  const again = refusedWith(['E_INTERNAL'], () => encodeLine(message.verb, Object.fromEntries(message.words)))
  if (again === undefined) return // Control bytes grow where they are encoded.
  mustHold(again.endsWith('\n') && again.indexOf('\n') === again.length - 1 && Buffer.byteLength(again) <= maxLineBytes, 'an encoded line is one line')
  mustHold(JSON.stringify(plainWords(again.slice(0, -1))) === JSON.stringify(plainWords(line)), 'what was read is written as it was')
}

const key = fc.stringMatching(/^[a-z]{1,8}$/).filter((text) => text !== 'text' && text !== 'message')
const message = fc.tuple(fc.stringMatching(/^[a-z-]{1,8}$/), fc.dictionary(key, fc.array(fc.string({ unit: 'binary', maxLength: 60 }), { minLength: 1, maxLength: 3 }), { maxKeys: 6, noNullPrototype: true }), fc.string({ unit: 'grapheme', maxLength: 2000 }))

function checkRoundTrip([verb, words, text]: readonly [string, Record<string, string[]>, string]): void {
  const line = refusedWith(['E_INTERNAL'], () => encodeLine(verb, { ...words, text }))
  if (line === undefined) return
  const read = decodeLine(line.slice(0, -1))
  mustHold(JSON.stringify(plainWords(line.slice(0, -1))) === JSON.stringify(words), 'what was written is read')
  mustHold(read?.verb === verb && Buffer.byteLength(line) <= maxLineBytes, 'the verb is read, the line is not too long')
  const said = read.words.get('text')?.[0] ?? ''
  mustHold(said === text || (said.endsWith('…') && text.startsWith(said.slice(0, -1))), 'prose is cut at its end')
}

function checkStream({ text, sizes }: { readonly text: string; readonly sizes: readonly number[] }): void {
  const bytes = Buffer.from(text)
  const read = (pieces: readonly Buffer[]): { lines: string[]; isOverlong: boolean } => {
    const reader = new LineReader()
    return { lines: pieces.flatMap((piece) => [...reader.lines(piece)].map((line) => line.text)), isOverlong: reader.isOverlong }
  }
  const whole = read([bytes])
  mustHold(JSON.stringify(read(cutInto(bytes, sizes))) === JSON.stringify(whole), 'pieces are read as the whole is')
  const all = text.toWellFormed().split('\n')
  const expected = all.slice(0, -1)
  const overlong = all.findIndex((line) => Buffer.byteLength(line) >= maxLineBytes)
  mustHold(whole.isOverlong === overlong >= 0, 'a line that is too long is told')
  mustHold(JSON.stringify(whole.lines) === JSON.stringify(overlong < 0 ? expected : all.slice(0, overlong)), 'every line before it is read')
}

function readLetter(pieces: readonly Buffer[]): Letter | 'refused' | undefined {
  const reader = new LetterReader()
  return refusedWith(['E_BAD_REQUEST'], () => {
    for (const piece of pieces) {
      const letter = reader.take(piece)
      if (letter !== undefined) return letter
    }
    return 'refused'
  })
}

function checkLetter({ text, sizes }: { readonly text: string; readonly sizes: readonly number[] }): void {
  const bytes = Buffer.from(`${text}\nbody of the letter that may be shorter or longer`)
  const [whole, inPieces] = [readLetter([bytes]), readLetter(cutInto(bytes, sizes))]
  const plain = (letter: typeof whole): string => (typeof letter === 'object' ? JSON.stringify([letter.message.verb, [...letter.message.words], letter.body.toString('base64')]) : String(letter))
  mustHold(plain(whole) === plain(inPieces), 'pieces are read as the whole is')
  if (typeof whole === 'object') mustHold(whole.body.length === (numberWord(whole.message, 'bytes') ?? 0), 'a letter has the length it claims')
}

type BookStep = readonly [kind: number, id: number, number: number, bytes: Uint8Array]
const number = fc.oneof(fc.nat(4), fc.nat(70_000), fc.constantFrom(2 ** 31, 2 ** 32, 999_999_999_999_999))

function takeStep(book: LaunchBook, [kind, id, value, bytes]: BookStep): LaunchBook {
  const member = 1 + (id % 3)
  switch (kind) {
    case 0: return addLaunch(book, { member: 0, pid: value, once: String(id) }, member, bytes).book
    case 1: return addSignal(book, id, value)
    case 2: return addOutput(book, id, value % 2 === 0 ? 'stdout' : 'stderr', value, bytes)
    case 3: return endLaunch(book, id, value)
    case 4: return loseMember(book, member).book
    case 5: {
      const { book: after, order } = nextOrder(book, member, value)
      mustHold(order === undefined || (order.member === member && order.seq > value && orderBody(order).length >= 0), 'an order is for who asks, and new')
      return after
    }
    default: {
      const max = kind === 6 ? value : 10
      const { book: after, out, err } = news(book, id, { out: value, err: Math.floor(value / 2), max })
      mustHold(out.length + err.length <= max, 'news are no longer than asked for')
      return after
    }
  }
}

function checkBook(steps: readonly BookStep[]): void {
  let book = emptyBook
  for (const step of steps) {
    const before = JSON.stringify(book)
    const after = refusedWith(['E_BAD_REQUEST'], () => takeStep(book, step))
    mustHold(JSON.stringify(book) === before, 'a book is never changed in place')
    book = after ?? book
  }
  mustHold(Value.Check(LaunchBook, JSON.parse(JSON.stringify(book))), 'the book can be read from an image')
  mustHold(new Set(book.launches.map(({ id }) => id)).size === book.launches.length, 'a launch has an id of its own')
}

// Options.

function checkOptions(text: string): void {
  const options = refusedWith(['E_BAD_OPTION'], () => parseOptions(text))
  if (options === undefined) return
  const again = Object.entries(options).filter(([, value]) => value !== undefined && value !== '').map(([name, value]) => `${name}=${String(value)}`).join(',')
  mustHold(JSON.stringify(parseOptions(again)) === JSON.stringify(options), 'options are read from what they are written as')
}

const isText = (value: unknown): boolean => typeof value === 'string'

function checkSbatch(text: string): void {
  for (const option of optionsLike(text)) mustHold(/^--[a-z-]+=[^\n]/.test(option), `an option has a value: ${option}`)
}

// Slurm.

function checkJob(job: SlurmJob | undefined): void {
  if (job === undefined) return
  mustHold(Number.isSafeInteger(job.uid) && job.uid >= 0 && job.uid < 2 ** 32, `uid ${job.uid} is one`)
  mustHold(Number.isSafeInteger(job.restarts) && job.restarts >= 0, `${job.restarts} restarts are a number of them`)
  for (const time of [job.endTime, job.preemptTime]) mustHold(time === undefined || Number.isFinite(time), 'a time is a number')
  mustHold([job.name, job.state, job.reason, job.nodes, job.partition, job.requiredNodes, job.excludedNodes, job.adminComment].every(isText), 'texts are texts')
}

const jobJsons = filesOf('scontrol', '.json').filter((text) => { try { return JSON.parse(text); return true } catch { return false } })
const jobIds = (text: string): number => {
  const [, json, plain] = /"job_id":\s*(\d{1,9})|JobId=(\d{1,9}) /.exec(text) ?? []
  return Number(json ?? plain ?? 5)
}

function checkJobText(text: string): void {
  const id = jobIds(text)
  checkJob(refusedWith(['E_SLURM'], () => parseJob(text, id)))
  const places = refusedWith(['E_SLURM'], () => parsePlaces(text, id))
  mustHold(places === undefined || (isText(places.allocated) && isText(places.left)), 'places are host lists')
}

function checkTables(text: string): void {
  for (const node of parseNodes(text)) mustHold(node.name !== '' && node.address !== '', 'a node has a name and an address')
  for (const [name] of parseConfig(text)) mustHold(name !== '', 'a setting has a name')
  mustHold(!parseAdminComment(text, 5).includes('\n'), 'a note is one line')
}

function checkSqueue(text: string): void {
  const lines = text.split('\n').length
  const [jobs, states] = [parseNodeJobs(text), parseJobStates(text)]
  mustHold(jobs.length <= lines && states.size <= lines, 'a line has one job')
  for (const id of [...jobs.map(({ jobId }) => jobId), ...states.keys()]) mustHold(Number.isSafeInteger(id) && id < 2 ** 32, `${id} is a job's number`)
}

// Images.

function checkManifest(text: string): void {
  const manifest = refusedWith(['E_IMAGE_DAMAGED'], () => parseManifest(text))
  if (manifest !== undefined) mustHold(JSON.stringify(parseManifest(JSON.stringify(manifest))) === JSON.stringify(manifest), 'what was read is written as it was')
}

const aLedger = { ...parseLedger(recorded('ledger.json')), sockets: [{ pid: 1, fd: 1, options: {} }] }

function checkLedger(text: string): void {
  const ledger = refusedWith(['E_IMAGE_DAMAGED'], () => parseLedger(text))
  if (ledger !== undefined) mustHold(JSON.stringify(parseLedger(JSON.stringify(ledger))) === JSON.stringify(ledger), 'what was read is written as it was')
}

function checkLedgerAnswers(text: string): void {
  const record = refusedWith(['E_COMMAND_FAILED'], () => readRecord(text, [0, 1]))
  if (record !== undefined) for (const { cpus } of record.affinities) mustHold(cpus.every((cpu) => cpu >= 0 && cpu < 8 * text.length), 'a CPU of the mask has a number')
  refusedWith(['E_COMMAND_FAILED'], () => readFailures(text, aLedger))
  refusedWith(['E_COMMAND_FAILED'], () => threadObstacles(text, new Map([[1, 'a']])))
  parseCpuMask(text)
}

function checkCpuList(text: string): void {
  mustHold(parseCpuList(text).every((cpu) => Number.isSafeInteger(cpu) && cpu >= 0), 'a CPU has a number')
}

const filesImage = readFileSync(join(fixtures, 'recorded/files.img'))
const namesInImage = new Set([...filesImage.toString('latin1').matchAll(/\/[!-~]+/g)].map(([name]) => name))

function checkImage(image: Buffer): void {
  const rewrite = (paths: ReadonlySet<string>): Buffer | undefined => {
    try {
      return withoutSizes(image, paths)
    } catch (error) {
      // Its own errors are plain ones: the message is the first thing an admin reads.
      if (error instanceof Error && error.constructor === Error && error.message.startsWith('files.img ')) return undefined
      throw error
    }
  }
  const [same, changed] = [rewrite(new Set()), rewrite(namesInImage)]
  mustHold(same === undefined || same.equals(image), 'nothing else is changed')
  if (changed === undefined) return
  mustHold(changed.length <= image.length + 64, 'it grows by no more than lengths of lengths')
  mustHold(withoutSizes(changed, namesInImage).equals(changed), 'what is forgotten is forgotten')
}

function checkCriuLog(text: string): void {
  const error = firstError(text)
  if (error === undefined) return
  mustHold(error !== '' && !error.includes('\n'), 'an error is a line')
  const remedy = remedyFor(error)
  mustHold(remedy !== undefined || !isPassing(error), 'what passes has a remedy')
  unknownError(text, error, '/log')
}

function checkProc(text: string): void {
  for (const mount of parseMounts(text)) mustHold(mount.mountPoint.length <= text.length, 'a mount has a place')
  for (const { directory } of parseCgroupPlaces(text, parseCgroupMounts(`${recordedMounts}\n${text}`))) mustHold(directory !== '', 'a cgroup has a directory')
  for (const { remotePort, unsentBytes } of parseTcp(text)) mustHold(typeof remotePort === 'number' && typeof unsentBytes === 'number', 'a connection has numbers')
  parseListeners(text)
  parseUnixListeners(text)
  parseFindings(text)
  parseKnownHosts(text, '/f')
}

const recordedMounts = recorded('mountinfo.txt')
const criu = { criu: '/usr/sbin/criu', nsenter: '/n', setpriv: '/usr/bin/setpriv', unshare: '/u', libexecDir: '/usr/libexec/stint' }
const binding = '      2182:\tbinding file /usr/sbin/criu [0] to /usr/libexec/stint/criu-shim.so [0]: normal symbol `ptrace\' [GLIBC_2.2.5]\n'

export const targets: readonly Target[] = [
  target('line', texts(linesOf('lines.txt')).map((text) => text.replaceAll('\n', ' ')), checkLine),
  target('line-round-trip', message, checkRoundTrip),
  target('line-stream', fc.record({ text: texts([recorded('lines.txt'), `${'x'.repeat(4094)}\ny\n`, `held\n${'x'.repeat(4095)}\n`]), sizes: cuts }), checkStream),
  target('letter', fc.record({ text: texts(linesOf('letters.txt')), sizes: cuts }), checkLetter),
  target('launch-book', fc.array(fc.tuple(fc.nat(7), fc.oneof(fc.nat(6), number), number, fc.uint8Array({ maxLength: 40 })), { maxLength: 25 }), checkBook),
  target('options', texts(linesOf('options.txt')), checkOptions),
  target('patterns', fc.record({ path: texts(['/shared/home/alice/run/data.log', '/a/b/c']), patterns: texts(['*.log:/scratch/**:a?b', '/**/*a**b*']) }), ({ path, patterns }) => {
    // As long as the kernel and the plugin (OPTIONS_MAX) take them.
    refusedWith(['E_BAD_OPTION'], () => excluder(patterns.slice(0, 511))(path.slice(0, 4095)))
  }),
  target('sbatch-options', texts([recorded('job-lines.txt'), ...filesOf('scontrol', '.txt')]), checkSbatch),
  target('scontrol-json', documents(jobJsons), (text) => { checkJob(refusedWith(['E_SLURM'], () => parseJobJson(text, jobIds(text)))) }),
  target('scontrol-text', texts([recorded('job-places.txt'), ...filesOf('scontrol', '.txt')]), checkJobText),
  target('scontrol-tables', texts(['nodes.txt', 'config.txt', 'note.txt'].map((name) => readFileSync(join(fixtures, 'scontrol', name), 'utf8'))), checkTables),
  target('squeue', texts([recorded('node-jobs.txt'), recorded('job-states.txt')]), checkSqueue),
  target('manifest', documents([recorded('manifest.json')]), checkManifest),
  target('rollback-record', documents([recorded('rollback.json')]), (text) => { refusedWith(['E_IMAGE_DAMAGED'], () => parseRollback(text)) }),
  target('ledger', documents([recorded('ledger.json')]), checkLedger),
  target('ledger-answers', texts([recorded('ledger-answers.txt'), 'group 1 3 4 2 224.1.1.1\ntimer 1 5 1 0 0 100 0\nfailed socket 1 3 2 01 02 x\nown-fs 1 2\ndone\n']), checkLedgerAnswers),
  target('cpu-list', texts(['0-3,8', '0', '0-1023']), checkCpuList),
  target('criu-image', binaries([filesImage]), checkImage),
  target('criu-log', texts(filesOf('criu-logs', '.log').map((text) => text.slice(-6000))), checkCriuLog),
  target('criu-bindings', texts([binding.repeat(3)]), (text) => { unmended(text, criu) }),
  target('proc', texts([recordedMounts, recorded('cgroup.txt'), recorded('tcp.txt'), recorded('unix-sockets.txt'), '5 3 urgent\n', 'n1 ssh-ed25519 AAAA\n@revoked |1|a=|b= ssh-rsa AAAA\n']), checkProc),
  target('answer', fc.tuple(fc.constantFrom(200, 201, 404, 500), documents(['{"code":"E_BUSY","message":"m","hint":"h"}', '[{"job":5}]'])), ([status, text]) => {
    try {
      readAnswer('stintd', status, text)
    } catch (error) {
      if (!isStintError(error)) throw error
    }
  }),
]
