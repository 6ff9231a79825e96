import { createServer, type Socket } from 'node:net'
import { attachGuard } from '../actions/recover.ts'
import { openMember } from '../actions/open-member.ts'
import { openSandbox } from '../actions/open-sandbox.ts'
import type { Context } from '../actions/context.ts'
import type { Message } from '../core/wire.ts'
import { listenAt } from '../linux/unix-socket.ts'
import { GuardLink } from './link.ts'

/** A connection that says nothing sensible first is closed. */
async function takeFirst(context: Context, link: GuardLink, message: Message): Promise<void> {
  if (message.verb === 'open') await (message.words.has('member') ? openMember : openSandbox)(context, link, message)
  else if (message.verb === 'attach') await attachGuard(context, link, message)
  else {
    context.log.warn({ verb: message.verb, peer: link.peer }, 'neither open nor attach')
    link.close()
  }
}

/** Listens for task processes and guards. Its end cuts their connections: guards live as long as jobs, and reconnect. */
export async function serveSandboxes(context: Context): Promise<AsyncDisposable> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.once('close', () => { sockets.delete(socket) })
    const link = new GuardLink(socket, context.log)
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
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
