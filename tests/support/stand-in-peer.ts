import { mkdirSync, rmSync } from 'node:fs'
import { createServer, type ServerResponse } from 'node:http'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * A daemon that answers what a test needs to hear, late, wrongly or not at all, on a Unix socket.
 * Ends with its input.
 * Usage: stand-in-peer SOCKET
 */

const [, , socketPath = ''] = process.argv
const seen = { requests: 0, hungUp: 0 }

function answer(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://peer')
  if (pathname === '/seen') {
    answer(response, 200, seen)
    return
  }
  seen.requests++
  response.on('close', () => { if (!response.writableFinished) seen.hungUp++ })
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => { chunks.push(chunk) })
  request.on('end', () => {
    const body = Buffer.concat(chunks).toString()
    if (pathname === '/echo') answer(response, 200, { method: request.method, type: request.headers['content-type'] ?? null, body })
    else if (pathname === '/late') void sleep(Number(searchParams.get('ms'))).then(() => { answer(response, 200, { late: true }) })
    else if (pathname === '/busy') answer(response, 409, { code: 'E_BUSY', message: 'job 5 is being saved', hint: 'Wait.' })
    else if (pathname === '/large') answer(response, 200, 'x'.repeat(Number(searchParams.get('bytes'))))
    else if (pathname === '/garbage') response.writeHead(200).end('<html>')
    else if (pathname === '/half') response.writeHead(200, { 'content-length': 100 }).write('{"half":', () => { request.socket.destroy() })
    else if (pathname === '/stall') response.writeHead(200, { 'content-length': 100 }).write('{"half":')
    else if (pathname === '/die') process.kill(process.pid, 'SIGKILL')
    else answer(response, 418, { unknown: pathname })
  })
})
mkdirSync(dirname(socketPath), { recursive: true })
rmSync(socketPath, { force: true })
server.listen(socketPath, () => { process.stdout.write('listening\n') })
process.stdin.resume().on('end', () => {
  server.close()
  server.closeAllConnections()
})
