import { createConnection, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import ssh2, { type ServerHostKeyAlgorithm } from 'ssh2'
import { systemCode, type StintError } from '../core/errors.ts'
import { hostKeyAlgorithms, judgeHostKey, type KnownHost } from './known-hosts.ts'
import { unlessAborted } from './limit.ts'
import { peerError } from './peer-error.ts'

export interface Destination {
  readonly node: string
  readonly host: string
  readonly port: number
  readonly user: string
  readonly key: { readonly path: string; readonly text: Buffer }
  /** With at least one trusted key. */
  readonly known: KnownHost
  readonly connectTimeoutSeconds: number
  readonly deadAfterSeconds: number
}

/** Unanswered keepalives before a connection is dead: with the wait for the last one, thirds of the whole time. */
const keepalives = 2

/** SSH_OPEN_CONNECT_FAILED (RFC 4254, 5.1): nobody listens there, or (OpenSSH 10.0) sshd may not forward to Unix sockets. */
const connectFailed = 2

function fileOf(known: KnownHost): string {
  return [...new Set(known.trusted.map(({ file, line }) => `${file} line ${line}`))].join(', ')
}

/** Undefined when the host may show this key. */
function hostKeyFault({ node, known }: Destination, shown: Buffer): StintError | undefined {
  const verdict = judgeHostKey(known, shown)
  if (verdict === 'trusted') return undefined
  if (verdict === 'unknown') {
    return peerError(node, `shows another host key than ${fileOf(known)} has`, {
      hint: `If ${node} was installed anew, replace its key there (\`ssh-keygen -R ${node} -f FILE\`); if not, somebody answers in its place.`,
    })
  }
  const { file, line } = verdict.revokedBy
  return peerError(node, `shows a host key that is revoked by ${file} line ${line}`, { hint: `Give ${node} a new host key and put it into ${file}.` })
}

/** What ssh2 says about a connection that did not come to be. */
function connectFault({ node, host, port, user, key, known, connectTimeoutSeconds }: Destination, cause: Error & { level?: string }): StintError {
  const at = `${host} port ${port}`
  if (cause.level === 'client-authentication') {
    return peerError(node, `sshd does not take ${key.path} for ${user}`, { cause, hint: `Put its public key into authorized_keys of ${user} on ${node}; PermitRootLogin there must not be "no".` })
  }
  if (cause.level === 'client-timeout') return peerError(node, `${at} did not finish the SSH handshake within ${connectTimeoutSeconds} s`, { cause })
  if (cause.message.includes('no matching host key format')) {
    return peerError(node, `has no host key of a type that ${fileOf(known)} has`, { cause, hint: `Add what \`ssh-keyscan ${host}\` prints, once compared with the keys on ${node} itself.` })
  }
  const code = systemCode(cause)
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return peerError(node, `${host} has no address`, { cause, hint: `Slurm's NodeAddr of ${node} must be known to DNS or /etc/hosts.` })
  if (code === 'ECONNREFUSED') return peerError(node, `no sshd listens at ${at}`, { cause, passing: true })
  return peerError(node, `no SSH connection to ${at}: ${cause.message}`, { cause, passing: code === 'ECONNRESET' || code === 'EPIPE' })
}

/**
 * One SSH connection to another node, over which any number of channels to its daemon are opened. Dead peers are found by
 * keepalives, so that a cut link or a frozen machine shows without a packet of theirs.
 */
export class PeerConnection implements Disposable {
  readonly #destination: Destination
  readonly #socket: Socket
  readonly #client = new ssh2.Client()
  readonly #lost = new AbortController()

  private constructor(destination: Destination) {
    this.#destination = destination
    this.#socket = createConnection({ host: destination.host, port: destination.port, noDelay: true })
  }

  /** Connects and shows who we are. @throws StintError E_PEER, or the signal's reason */
  static async open(destination: Destination, signal: AbortSignal): Promise<PeerConnection> {
    const connection = new PeerConnection(destination)
    try {
      await unlessAborted(connection.#handshake(), signal)
    } catch (error) {
      connection[Symbol.dispose]()
      throw error
    }
    return connection
  }

  /** Aborted with an E_PEER as its reason when the connection is gone, whoever ended it. */
  get lost(): AbortSignal {
    return this.#lost.signal
  }

  async #handshake(): Promise<void> {
    const { node, user, key, known, connectTimeoutSeconds, deadAfterSeconds } = this.#destination
    const { promise, resolve, reject } = Promise.withResolvers<undefined>()
    // Of several complaints about one connection the first counts.
    const fail = (fault: StintError): void => {
      reject(fault)
      this.#lose(fault)
    }
    let ready = false
    this.#client
      .once('ready', () => {
        ready = true
        resolve(undefined)
      })
      .on('error', (cause) => {
        fail(ready ? peerError(node, `the SSH connection broke: ${cause.message}`, { cause, passing: true }) : connectFault(this.#destination, cause))
      })
      .on('end', () => { fail(peerError(node, 'sshd closed the connection', { passing: true })) })
      .on('close', () => { fail(peerError(node, 'the SSH connection is closed', { passing: true })) })
    this.#client.connect({
      sock: this.#socket, username: user, privateKey: key.text, authHandler: ['publickey'],
      algorithms: { serverHostKey: hostKeyAlgorithms(known) as ServerHostKeyAlgorithm[] },
      hostVerifier: (shown: Buffer) => {
        const fault = hostKeyFault(this.#destination, shown)
        if (fault !== undefined) fail(fault)
        return fault === undefined
      },
      readyTimeout: connectTimeoutSeconds * 1000,
      keepaliveInterval: deadAfterSeconds * 1000 / (keepalives + 1), keepaliveCountMax: keepalives,
    })
    await promise
  }

  #lose(fault: StintError): void {
    if (this.#lost.signal.aborted) return
    this.#lost.abort(fault)
    this.#socket.destroy()
  }

  #channelFault(socketPath: string, cause: Error & { reason?: unknown }): StintError {
    const { node } = this.#destination
    if (this.lost.aborted) return this.lost.reason as StintError
    if (cause.reason === connectFailed) {
      return peerError(node, `sshd there reaches no stintd at ${socketPath}`, {
        cause, passing: true,
        hint: `Look at \`systemctl status stintd\` on ${node}; paths.peer_socket must be the same on every node. If it listens there, sshd may not forward: sshd_config must allow AllowStreamLocalForwarding and AllowTcpForwarding, the key's line in authorized_keys port-forwarding and, if it has permitopen, this socket.`,
      })
    }
    return peerError(node, `sshd there opens no channel to ${socketPath}: ${cause.message}`, { cause })
  }

  /** A stream to a Unix socket of the peer. @throws StintError E_PEER */
  async openChannel(socketPath: string): Promise<Duplex> {
    const { promise, resolve, reject } = Promise.withResolvers<Duplex>()
    try {
      this.#client.openssh_forwardOutStreamLocal(socketPath, (cause, channel) => {
        if (cause === undefined) resolve(channel)
        else reject(this.#channelFault(socketPath, cause))
      })
    } catch (cause) {
      // ssh2 throws when its socket can no longer be written to.
      throw this.lost.aborted ? this.lost.reason : peerError(this.#destination.node, 'the SSH connection is closing', { cause, passing: true })
    }
    return promise
  }

  [Symbol.dispose](): void {
    this.#client.end()
    this.#lose(peerError(this.#destination.node, 'the SSH connection was closed here', { passing: true }))
  }
}
