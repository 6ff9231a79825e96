import { addLaunch, addOutput, addSignal, endLaunch, news, nextOrder, orderBody, requireLaunch } from '../core/launch-book.ts'
import { StintError, asStintError } from '../core/errors.ts'
import type { RelayedLetter, RelayedReply } from '../core/member.ts'
import { decodeLine, encodeLine, numberWord, word, type Message } from '../core/wire.ts'
import type { Letter } from '../member/letter-reader.ts'
import type { Reply } from '../member/relay.ts'
import { type Context, type Sandbox, scriptPid } from '../context.ts'
import { assertLaunchable, isFull, launchBook, wakeAgent, wakeLauncher, writeBook } from './launches.ts'
import { requireMember } from './member-step.ts'
import { assertNotStopping } from '../stopping.ts'

/** What agents and launchers of a run ask for, answered by its coordinator (docs/reference/sandbox-protocol.md, "Post office"). */

/** The process in a sandbox that writes a letter. */
interface Sender {
  readonly member: number
  readonly pid: number
}

function need(message: Message, key: string): number {
  const value = numberWord(message, key)
  if (value === undefined) throw new StintError('E_BAD_REQUEST', `"${message.verb}" lacks ${key}`)
  return value
}

function isTaken(context: Context, sandbox: Sandbox, sender: Sender, { message }: Letter): boolean {
  return launchBook(context, sandbox).launches.some((l) => l.once === word(message, 'once') && l.agentMember === sender.member && l.agentPid === sender.pid)
}

async function launch(context: Context, sandbox: Sandbox, sender: Sender, letter: Letter): Promise<Reply | undefined> {
  const host = word(letter.message, 'host') ?? ''
  const member = sandbox.hosts.indexOf(host.split('.')[0] ?? '')
  if (member < 0) return { verb: 'refused', words: { message: `host ${host} is not in this job: it has ${sandbox.hosts.join(', ')}` } }
  if (member === 0) return { verb: 'refused', words: { message: `${host} is the host of the job script itself; MPI launchers start ranks there without a remote shell` } }
  if (sandbox.busy) return undefined
  try {
    // A launch that was taken already is answered whatever the book has become since.
    if (!isTaken(context, sandbox, sender, letter)) {
      const full = isFull(context, sandbox, letter.body.length)
      assertLaunchable(context, sandbox)
      if (full) return undefined
    }
    await requireMember(context, sandbox, member)
  } catch (error) {
    assertNotStopping(context, error) // Without an answer it is asked again.
    const { message, hint } = asStintError(error)
    return { verb: 'refused', words: { message: `${host}: ${message}. ${hint}` } }
  }
  const { book, id } = addLaunch(launchBook(context, sandbox), { ...sender, once: word(letter.message, 'once') ?? '' }, member, letter.body)
  writeBook(context, sandbox, book)
  wakeLauncher(context, sandbox, member)
  return { verb: 'launched', words: { id } }
}

function tellNews(context: Context, sandbox: Sandbox, { message }: Letter): Reply {
  const before = launchBook(context, sandbox)
  const id = need(message, 'id')
  const { book, launch: found, out, err, last } = news(before, id, { out: need(message, 'out'), err: need(message, 'err'), max: need(message, 'max') })
  writeBook(context, sandbox, book)
  const words = { out: out.length, err: err.length }
  return { ...(last ? { verb: 'ended', words: { ...words, status: found.status ?? 0 } } : { verb: 'running', words }), body: Buffer.concat([out, err]) }
}

function takeSignal(context: Context, sandbox: Sandbox, { message }: Letter): Reply {
  const [before, id] = [launchBook(context, sandbox), need(message, 'id')]
  writeBook(context, sandbox, addSignal(before, id, need(message, 'number')))
  wakeLauncher(context, sandbox, requireLaunch(before, id).member)
  return { verb: 'ok' }
}

function giveWork(context: Context, sandbox: Sandbox, sender: Sender, { message }: Letter): Reply {
  const { book, order } = nextOrder(launchBook(context, sandbox), sender.member, need(message, 'after'))
  writeBook(context, sandbox, book)
  if (order === undefined) return { verb: 'none' }
  const words = { seq: order.seq, id: order.launch }
  return order.kind === 'start' ? { verb: 'start', words, body: orderBody(order) } : { verb: 'signal', words: { ...words, number: order.number } }
}

function takeOutput(context: Context, sandbox: Sandbox, { message, body }: Letter): Reply | undefined {
  if (isFull(context, sandbox, body.length)) return undefined // The launcher keeps it, and the command waits in its write.
  const id = need(message, 'id')
  const book = addOutput(launchBook(context, sandbox), id, need(message, 'stream') === 2 ? 'stderr' : 'stdout', need(message, 'offset'), body)
  writeBook(context, sandbox, book)
  wakeAgent(context, sandbox, requireLaunch(book, id))
  return { verb: 'ok' }
}

function takeEnd(context: Context, sandbox: Sandbox, { message }: Letter): Reply {
  const id = need(message, 'id')
  const book = endLaunch(launchBook(context, sandbox), id, need(message, 'status'))
  writeBook(context, sandbox, book)
  wakeAgent(context, sandbox, requireLaunch(book, id))
  return { verb: 'ok' }
}

/**
 * Answers a letter; undefined: not now, ask again.
 * @throws StintError E_BAD_REQUEST when it is none of the protocol
 */
export async function answerLetter(context: Context, sandbox: Sandbox, sender: Sender, letter: Letter): Promise<Reply | undefined> {
  const { verb } = letter.message
  const isLauncher = sender.member !== 0 && sender.pid === scriptPid
  // Whatever changes the book writes it anew.
  if (!context.budgets.launchBytes.take(sandbox.run.uid, performance.now(), (sandbox.launchBytes ?? 0) + letter.body.length)) return undefined
  if (verb === 'launch') return launch(context, sandbox, sender, letter)
  if (isLauncher && verb === 'work') return giveWork(context, sandbox, sender, letter)
  if (['news', 'signal', 'output', 'ended'].includes(verb) && !knows(context, sandbox, letter)) return { verb: 'unknown' }
  if (verb === 'news') return tellNews(context, sandbox, letter)
  if (verb === 'signal') return takeSignal(context, sandbox, letter)
  if (isLauncher && verb === 'output') return takeOutput(context, sandbox, letter)
  if (isLauncher && verb === 'ended') return takeEnd(context, sandbox, letter)
  throw new StintError('E_BAD_REQUEST', `"${verb}" is not for this post office`)
}

/** What is said about a launch that is not in the book is answered `unknown`, which settles it. */
function knows(context: Context, sandbox: Sandbox, { message }: Letter): boolean {
  return launchBook(context, sandbox).launches.some((l) => l.id === numberWord(message, 'id'))
}

/** A letter that came by way of another node's daemon. */
export async function answerRelayed(context: Context, sandbox: Sandbox, relayed: RelayedLetter): Promise<RelayedReply> {
  const message = decodeLine(relayed.line)
  if (message === undefined) throw new StintError('E_BAD_REQUEST', 'what was relayed is no letter')
  const reply = await answerLetter(context, sandbox, relayed, { message, body: Buffer.from(relayed.body, 'base64') })
  return reply === undefined ? null : { verb: reply.verb, words: plainWords(reply), body: reply.body === undefined ? null : Buffer.from(reply.body).toString('base64') }
}

function plainWords({ words = {} }: Reply): Record<string, string | number> {
  return Object.fromEntries(Object.entries(words).flatMap(([key, value]) => (typeof value === 'string' || typeof value === 'number' ? [[key, value]] : [])))
}

/** For the post office of a member here whose coordinator is elsewhere: passes letters on. */
export async function relayLetter(context: Context, sandbox: Sandbox, pid: number, letter: Letter): Promise<Reply | undefined> {
  const { message, body } = letter
  const line = encodeLine(message.verb, Object.fromEntries([...message.words].map(([key, values]) => [key, values]))).trimEnd()
  const reply = await context.cluster.coordinator(sandbox.run.job_id, sandbox.coordinator ?? '').deliver({ member: sandbox.member, pid, line, body: body.toString('base64') })
  return reply === null ? undefined : { verb: reply.verb, words: reply.words, ...(reply.body === null ? {} : { body: Buffer.from(reply.body, 'base64') }) }
}
