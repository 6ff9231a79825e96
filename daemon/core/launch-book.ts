import { Type, type Static } from 'typebox'
import { StintError } from './errors.ts'

/**
 * The commands that MPI launchers of a run have sent to its other members: who asked, where they run, what came back. The
 * coordinator's book; it travels in the image of member 0, so that agents and launchers, who hold no connection, find
 * each other again on other nodes. Values only: every change gives a new book.
 */

/** Output that the agent has not fetched yet: `data` in base64 starts at byte `offset` of the stream. */
const Stream = Type.Object({ offset: Type.Integer(), data: Type.String() })

const Launch = Type.Object({
  id: Type.Integer(),
  /** Where the command runs. */
  member: Type.Integer(),
  /** The agent that waits for it: its member, and its PID in that sandbox. */
  agentMember: Type.Integer(),
  agentPid: Type.Integer(),
  /** The agent's word for this launch: the same again means the same launch. */
  once: Type.String(),
  stdout: Stream,
  stderr: Stream,
  /** Wait status of the command; null while it runs. */
  status: Type.Union([Type.Integer(), Type.Null()]),
})

const Order = Type.Object({
  seq: Type.Integer(),
  member: Type.Integer(),
  kind: Type.Union([Type.Literal('start'), Type.Literal('signal')]),
  launch: Type.Integer(),
  /** Of a `start`: command line, working directory and environment, each ended by a null byte; base64. */
  body: Type.String(),
  /** Of a `signal`. */
  number: Type.Integer(),
})

export const LaunchBook = Type.Object({ nextId: Type.Integer(), nextSeq: Type.Integer(), launches: Type.Array(Launch), orders: Type.Array(Order) })
export type LaunchBook = Static<typeof LaunchBook>
export type Launch = Static<typeof Launch>
export type Order = Static<typeof Order>

/** Launches that have ended are remembered so many deep: an agent may ask once more. */
const rememberEnded = 64
/** Wait status of a command whose member is gone: exit code 255, as ssh has it. */
export const lostStatus = 255 << 8

export const emptyBook: LaunchBook = { nextId: 1, nextSeq: 1, launches: [], orders: [] }

const emptyStream = { offset: 0, data: '' }

/** Bytes, as they are on record, of what nobody has fetched yet: commands and output. */
export function unfetchedBytes(book: LaunchBook): number {
  return book.orders.reduce((sum, { body }) => sum + body.length, 0) + book.launches.reduce((sum, { stdout, stderr }) => sum + stdout.data.length + stderr.data.length, 0)
}

/** Commands that have not ended. */
export function runningCount(book: LaunchBook): number {
  return book.launches.filter(({ status }) => status === null).length
}

/**
 * A new command, or the one this agent has sent already: it asks again when the answer was lost.
 * @returns the book and the launch's id
 */
export function addLaunch(book: LaunchBook, agent: { member: number; pid: number; once: string }, member: number, body: Uint8Array): { book: LaunchBook; id: number } {
  const known = book.launches.find((l) => l.once === agent.once && l.agentMember === agent.member && l.agentPid === agent.pid)
  if (known !== undefined) return { book, id: known.id }
  const id = book.nextId
  const ended = book.launches.filter((l) => l.status !== null)
  const forgotten = new Set(ended.slice(0, Math.max(0, ended.length - rememberEnded)).map((l) => l.id))
  const launches = [...book.launches.filter((l) => !forgotten.has(l.id)), { id, member, agentMember: agent.member, agentPid: agent.pid, once: agent.once, stdout: emptyStream, stderr: emptyStream, status: null }]
  return { id, book: addOrder({ ...book, nextId: id + 1, launches }, { member, kind: 'start', launch: id, body: toBase64(body), number: 0 }) }
}

function addOrder(book: LaunchBook, order: Omit<Order, 'seq'>): LaunchBook {
  return { ...book, nextSeq: book.nextSeq + 1, orders: [...book.orders, { ...order, seq: book.nextSeq }] }
}

/** @throws StintError E_BAD_REQUEST when there is no such launch */
export function requireLaunch(book: LaunchBook, id: number): Launch {
  const found = book.launches.find((l) => l.id === id)
  if (found === undefined) throw new StintError('E_BAD_REQUEST', `there is no launch ${id}`)
  return found
}

function change(book: LaunchBook, id: number, changed: Partial<Launch>): LaunchBook {
  return { ...book, launches: book.launches.map((l) => (l.id === id ? { ...l, ...changed } : l)) }
}

/** A signal for a command that still runs. */
export function addSignal(book: LaunchBook, id: number, number: number): LaunchBook {
  const { member, status } = requireLaunch(book, id)
  return status === null ? addOrder(book, { member, kind: 'signal', launch: id, body: '', number }) : book
}

/** What a launcher has to do next; everything up to `after` it has done. */
export function nextOrder(book: LaunchBook, member: number, after: number): { book: LaunchBook; order: Order | undefined } {
  const orders = book.orders.filter((o) => o.member !== member || o.seq > after)
  return { book: orders.length === book.orders.length ? book : { ...book, orders }, order: orders.find((o) => o.member === member) }
}

/** Output of a command; what the book has already is not taken twice, what lies beyond a gap not at all. */
export function addOutput(book: LaunchBook, id: number, stream: 'stdout' | 'stderr', offset: number, bytes: Uint8Array): LaunchBook {
  const launch = requireLaunch(book, id)
  const kept = fromBase64(launch[stream].data)
  const end = launch[stream].offset + kept.length
  if (offset > end) throw new StintError('E_BAD_REQUEST', `output of launch ${id} has a gap: ${offset} after ${end}`)
  const fresh = bytes.subarray(Math.min(bytes.length, end - offset))
  return fresh.length === 0 ? book : change(book, id, { [stream]: { offset: launch[stream].offset, data: toBase64(concat(kept, fresh)) } })
}

export function endLaunch(book: LaunchBook, id: number, status: number): LaunchBook {
  return requireLaunch(book, id).status === null ? change(book, id, { status }) : book
}

/** A member is gone: its commands have ended, and nobody is left to take its orders. @returns the launches that ended by it */
export function loseMember(book: LaunchBook, member: number): { book: LaunchBook; lost: Launch[] } {
  const lost = book.launches.filter((l) => l.member === member && l.status === null)
  const launches = book.launches.map((l) => (lost.includes(l) ? { ...l, status: lostStatus } : l))
  return { lost, book: { ...book, launches, orders: book.orders.filter((o) => o.member !== member) } }
}

/**
 * What an agent has not had yet, `max` bytes of both streams together at most. Everything before its offsets it has written,
 * and it is forgotten.
 * @returns also whether this is the last: the command has ended, and nothing of its output is left
 */
export function news(book: LaunchBook, id: number, offsets: { out: number; err: number; max: number }): { book: LaunchBook; launch: Launch; out: Uint8Array; err: Uint8Array; last: boolean } {
  const launch = requireLaunch(book, id)
  const [stdout, stderr] = [from(launch.stdout, offsets.out), from(launch.stderr, offsets.err)]
  const isFetched = stdout.offset !== launch.stdout.offset || stderr.offset !== launch.stderr.offset
  const changed = isFetched ? change(book, id, { stdout: { offset: stdout.offset, data: toBase64(stdout.bytes) }, stderr: { offset: stderr.offset, data: toBase64(stderr.bytes) } }) : book
  const out = stdout.bytes.subarray(0, offsets.max)
  const err = stderr.bytes.subarray(0, offsets.max - out.length)
  return { book: changed, launch, out, err, last: launch.status !== null && out.length === stdout.bytes.length && err.length === stderr.bytes.length }
}

function from(stream: Static<typeof Stream>, offset: number): { offset: number; bytes: Uint8Array } {
  const bytes = fromBase64(stream.data)
  const skip = Math.min(bytes.length, Math.max(0, offset - stream.offset))
  return { offset: stream.offset + skip, bytes: bytes.subarray(skip) }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const whole = new Uint8Array(a.length + b.length)
  whole.set(a)
  whole.set(b, a.length)
  return whole
}

/** What fits on the stack as arguments of one call. */
const charactersAtOnce = 8192

function toBase64(bytes: Uint8Array): string {
  const parts: string[] = []
  for (let at = 0; at < bytes.length; at += charactersAtOnce) parts.push(String.fromCharCode(...bytes.subarray(at, at + charactersAtOnce)))
  return btoa(parts.join(''))
}

function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
}

/** The raw bytes of an order's body. */
export function orderBody(order: Order): Uint8Array {
  return fromBase64(order.body)
}
