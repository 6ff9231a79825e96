import { createServer, type Socket } from 'node:net'
import { answerHook } from './hooks.ts'
import { attachGuard } from './recover.ts'
import { openMember } from './invitations.ts'
import { openSandbox } from '../run/first-open.ts'
import type { Context } from '../context.ts'
import type { Message } from '../core/wire.ts'
import { listenAt } from '../linux/unix-socket.ts'
import { GuardLink } from '../member/monitor-connection.ts'

/** A connection that says nothing sensible first is closed. */
async function takeFirst(context: Context, link: GuardLink, message: Message): Promise<void> {
  if (message.verb === 'open') await (message.words.has('member') ? openMember : openSandbox)(context, link, message)
  else if (message.verb === 'attach') await attachGuard(context, link, message)
  else if (message.verb === 'prolog' || message.verb === 'epilog') {
    link.close()
    await answerHook(context, message)
  } else {
    context.log.warn({ verb: message.verb, peer: link.peer }, 'neither open nor attach')
    link.close()
  }
}

/** Besides the socket's mode: slurmstepd, guards and hooks are root's. Undefined for all others, and for who has hung up. */
function connected(context: Context, socket: Socket): GuardLink | undefined {
  try {
    const link = new GuardLink(socket, context.log)
    if (link.peer.uid === 0) return link
    context.log.warn({ peer: link.peer }, 'only root may come to the socket of the plugin')
  } catch (error) {
    context.log.debug({ err: error }, 'sandbox connection')
  }
  socket.destroy()
  return undefined
}

/** Listens for task processes and guards. Its end cuts their connections: guards live as long as jobs, and reconnect. */
export async function serveSandboxes(context: Context): Promise<AsyncDisposable> {
  const links = new Set<GuardLink>()
  const server = createServer((socket) => {
    const link = connected(context, socket)
    if (link === undefined) return
    links.add(link)
    socket.once('close', () => { links.delete(link) })
    link.onMessage = (message) => {
      takeFirst(context, link, message).catch((error: unknown) => {
        context.log.error({ err: error, verb: message.verb, peer: link.peer }, 'sandbox connection')
        link.close()
      })
    }
  })
  const listening = await listenAt(server, context.config.paths.sandbox_socket, 0o600)
  return {
    [Symbol.asyncDispose]: async () => {
      const closed = listening[Symbol.asyncDispose]()
      // The catalogue is closed next: nobody may look for a guard any more.
      for (const link of links) {
        link.onClose = undefined
        link.close()
      }
      await closed
    },
  }
}
