import { readFile } from 'node:fs/promises'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import pLimit from 'p-limit'
import type { Logger } from 'pino'
import ssh2 from 'ssh2'
import { readAnswer } from '../core/answer.ts'
import type { Config } from '../core/config.ts'
import { StintError, asStintError, isStintError, systemCode } from '../core/errors.ts'
import { PeerConnection } from './connection.ts'
import { exchange, type Method } from './exchange.ts'
import { findHost, hostKeyAlgorithms, knownNames, parseKnownHosts, type KnownHost } from './known-hosts.ts'
import { Limit, unlessAborted } from './limit.ts'
import { isPassing, peerError } from './peer-error.ts'

/** [cluster] of the configuration, and the socket of every daemon. */
export interface PeerSettings {
  readonly socketPath: string
  readonly port: number
  readonly user: string
  readonly keyPath: string
  readonly knownHostsPaths: readonly string[]
  readonly connectTimeoutSeconds: number
  readonly deadAfterSeconds: number
  readonly requestTimeoutSeconds: number
  readonly attempts: number
  readonly idleSeconds: number
}

export interface RequestOptions {
  readonly signal?: AbortSignal
  /** For everything from connecting to the last byte of the answer. */
  readonly timeoutSeconds?: number
}

export function peerSettings({ cluster, paths }: Config): PeerSettings {
  return {
    socketPath: paths.peer_socket, port: cluster.ssh_port, user: cluster.ssh_user, keyPath: cluster.ssh_key, knownHostsPaths: cluster.known_hosts,
    connectTimeoutSeconds: cluster.connect_timeout_seconds, deadAfterSeconds: cluster.dead_after_seconds, requestTimeoutSeconds: cluster.request_timeout_seconds,
    attempts: cluster.attempts, idleSeconds: cluster.idle_seconds,
  }
}

/** The host or address under which sshd of a node is reached. */
export type AddressOf = (node: string) => Promise<string>

/** What a daemon says of itself. */
export interface Hello {
  readonly keys: readonly { readonly id: string; readonly use: string }[]
  readonly node: string
  /** Of Stint. */
  readonly version: string
}

/** A connection in use or in the making. */
interface Kept {
  readonly connection: Promise<PeerConnection>
  /** Requests under way; while there are none, `idle` runs. */
  users: number
  idle: NodeJS.Timeout | undefined
}

/** Between tries to bring a request on its way, milliseconds. */
const pause = 500

/**
 * Handshakes under way at once. Each costs this daemon tens of milliseconds of processor time, and all that are begun share it:
 * of many none would be through within `cluster.connect_timeout_seconds`.
 */
const handshakes = 8

/** A file that is not there has no keys. @throws StintError E_PEER */
async function readKnownHosts(node: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    if (systemCode(cause) === 'ENOENT') return ''
    throw peerError(node, `${path} cannot be read`, { cause })
  }
}

/**
 * The daemons of other nodes: HTTP over SSH to their peer sockets. One connection per node is kept while it is used, and
 * all requests to the node share it. Nothing here waits without a limit, and everything that concerns the way to a peer
 * is an E_PEER.
 */
export class Peers implements Disposable {
  readonly #settings: PeerSettings
  readonly #log: Logger
  readonly #addressOf: AddressOf
  readonly #kept = new Map<string, Kept>()
  readonly #closing = new AbortController()
  readonly #handshakes = pLimit(handshakes)

  constructor(settings: PeerSettings, log: Logger, addressOf: AddressOf = (node) => Promise.resolve(node)) {
    this.#settings = settings
    this.#log = log
    this.#addressOf = addressOf
  }

  /**
   * Asks the daemon of a node.
   * @throws StintError the daemon's own; E_PEER when it was not reached or did not answer in time (`details.sent` tells
   *   whether it may have acted all the same); the signal's reason when that is a StintError, or else E_PEER
   */
  async request<T>(node: string, method: Method, path: string, body?: unknown, options: RequestOptions = {}): Promise<T> {
    using limit = this.#limit(node, `${method} ${path}`, options)
    return await this.#with(node, limit.signal, async (connection, channel) => {
      const until = AbortSignal.any([limit.signal, connection.lost])
      const { status, text } = await exchange(channel, node, method, path, body, until).catch((cause: unknown) => {
        throw this.#unanswered(node, `${method} ${path}`, until.aborted ? until.reason : cause)
      })
      return readAnswer(`stintd of ${node}`, status, text) as T
    })
  }

  /** Whether the daemon of a node is reached at all, and which it is. @throws StintError as `request` does */
  async hello(node: string, options: RequestOptions = {}): Promise<Hello> {
    return await this.request<Hello>(node, 'GET', '/v1/peer/hello', undefined, options)
  }

  /** Connects ahead of the first request. @throws StintError E_PEER */
  async connect(node: string, options: RequestOptions = {}): Promise<void> {
    using limit = this.#limit(node, 'connecting', options)
    await this.#with(node, limit.signal, (_, channel) => { channel.destroy() })
  }

  #limit(node: string, what: string, { signal, timeoutSeconds = this.#settings.requestTimeoutSeconds }: RequestOptions): Limit {
    return new Limit(timeoutSeconds, () => peerError(node, `${what} took longer than ${timeoutSeconds} s`), [this.#closing.signal, ...(signal === undefined ? [] : [signal])])
  }

  /** The same error, with the word that the peer may have acted. */
  #unanswered(node: string, what: string, cause: unknown): StintError {
    if (!isStintError(cause)) return peerError(node, `no answer to ${what}: ${asStintError(cause).message}`, { cause, sent: true })
    return new StintError(cause.code, cause.message, { cause, hint: cause.hint, details: { ...cause.details, sent: true } })
  }

  /** Brings work on its way over the node's connection, with a new try where that can help: nothing was sent before. */
  async #with<T>(node: string, signal: AbortSignal, work: (connection: PeerConnection, channel: Duplex) => T | Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        const kept = this.#keep(node)
        kept.users++
        clearTimeout(kept.idle)
        try {
          const connection = await unlessAborted(kept.connection, signal)
          const channel = await this.#openChannel(connection, signal)
          return await work(connection, channel)
        } finally {
          kept.users--
          if (kept.users === 0) this.#startIdling(node, kept)
        }
      } catch (error) {
        if (!isStintError(error)) throw signal.aborted ? peerError(node, `given up: ${asStintError(error).message}`, { cause: error }) : error
        if (attempt >= this.#settings.attempts || !isPassing(error)) throw error
        this.#log.info({ node, attempt, reason: asStintError(error).message }, 'peer not reached, trying again')
        await sleep(pause, undefined, { signal }).catch(() => { throw error })
      }
    }
  }

  /** A channel that comes after nobody waits for it any more is closed. */
  async #openChannel(connection: PeerConnection, signal: AbortSignal): Promise<Duplex> {
    const opening = connection.openChannel(this.#settings.socketPath)
    try {
      return await unlessAborted(opening, signal)
    } catch (error) {
      opening.then((channel) => { channel.destroy() }, () => undefined)
      throw error
    }
  }

  /** The node's connection, made when there is none. */
  #keep(node: string): Kept {
    const found = this.#kept.get(node)
    if (found !== undefined) return found
    const kept: Kept = { connection: this.#open(node), users: 0, idle: undefined }
    this.#kept.set(node, kept)
    const forget = (): void => {
      clearTimeout(kept.idle)
      if (this.#kept.get(node) === kept) this.#kept.delete(node)
    }
    kept.connection.then((connection) => {
      if (connection.lost.aborted) forget()
      connection.lost.addEventListener('abort', () => {
        this.#log.info({ node, reason: asStintError(connection.lost.reason).message }, 'peer connection ended')
        forget()
      }, { once: true })
    }, forget)
    return kept
  }

  #startIdling(node: string, kept: Kept): void {
    if (this.#kept.get(node) !== kept) return
    kept.idle = setTimeout(() => { void kept.connection.then((connection) => { connection[Symbol.dispose]() }) }, this.#settings.idleSeconds * 1000)
    kept.idle.unref()
  }

  async #open(node: string): Promise<PeerConnection> {
    const { keyPath, port, user, connectTimeoutSeconds, deadAfterSeconds } = this.#settings
    const host = await this.#addressOf(node)
    const known = await this.#knownHost(node, host)
    const key = { path: keyPath, text: await this.#readKey(node) }
    const connection = await this.#handshakes(async () => PeerConnection.open({ node, host, port, user, known, key, connectTimeoutSeconds, deadAfterSeconds }, this.#closing.signal))
    this.#log.debug({ node, host }, 'peer connected')
    return connection
  }

  async #readKey(node: string): Promise<Buffer> {
    const { keyPath } = this.#settings
    const text = await readFile(keyPath).catch((cause: unknown) => {
      throw peerError(node, `${keyPath} cannot be read`, { cause, hint: `Make a key pair (ssh-keygen -t ed25519 -N '' -f ${keyPath}), or set cluster.ssh_key.` })
    })
    const parsed = ssh2.utils.parseKey(text)
    if (parsed instanceof Error) throw peerError(node, `${keyPath} is no usable private key: ${parsed.message}`, { cause: parsed, hint: 'cluster.ssh_key must name a private key without passphrase.' })
    return text
  }

  /** @throws StintError E_PEER when no file has a usable key of the node */
  async #knownHost(node: string, host: string): Promise<KnownHost> {
    const { knownHostsPaths, port } = this.#settings
    const entries = (await Promise.all(knownHostsPaths.map(async (path) => parseKnownHosts(await readKnownHosts(node, path), path)))).flat()
    const names = knownNames([node, host], port)
    const known = findHost(entries, names)
    if (hostKeyAlgorithms(known).length > 0) return known
    throw peerError(node, `no host key of ${names.join(' or ')} in ${knownHostsPaths.join(' or ')}`, {
      hint: `Put ${node}'s host keys (there: /etc/ssh/ssh_host_*_key.pub) into ${knownHostsPaths[0] ?? 'a file of cluster.known_hosts'}, as "${names[0] ?? node} KEY". Ed25519, ECDSA and RSA keys are understood.`,
    })
  }

  /** Ends every connection; requests under way reject with E_PEER. */
  [Symbol.dispose](): void {
    this.#closing.abort(peerError('this node', 'stintd is stopping'))
    for (const kept of this.#kept.values()) kept.connection.then((connection) => { connection[Symbol.dispose]() }, () => undefined)
  }
}
