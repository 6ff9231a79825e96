import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { setTimeout as sleep } from 'node:timers/promises'
import { cluster, on, tryOn, until } from '../support/cluster.ts'
import type { Outcome } from '../support/peer-client.ts'
import { PeerClient, standInOn, withSshd, type Config } from '../support/peers.ts'

/**
 * The way from daemon to daemon, from n1 to n2 through real sshds. Where the daemon there must answer late or wrongly, a
 * stand-in serves a socket of its own.
 */

const socket = '/run/stint-test/peer.sock'
const folder = '/run/stint-test'
jest.setTimeout(60_000)

let standIn: AsyncDisposable

beforeAll(async () => {
  await on('n1', `mkdir -p ${folder}`)
  standIn = await standInOn('n2', socket)
})
afterAll(async () => {
  await standIn[Symbol.asyncDispose]()
  for (const node of ['n1', 'n2']) await on(node, `rm -rf ${folder}`)
})

/** A client on n1 that talks to the stand-in on n2, unless told otherwise. */
function client(cluster: Config[string] = {}, paths: Config[string] = { peer_socket: socket }): PeerClient {
  return new PeerClient('n1', { cluster, paths })
}

/** SSH connections that n2 has from n1. */
async function connections(): Promise<number> {
  return Number(await on('n2', "ss -Htn state established '( sport = :22 )' | wc -l"))
}

/** On n2, the processes of sshd for each connection. */
const sessions = "pgrep -f '^sshd-session: root'"

async function seen(peers: PeerClient): Promise<{ requests: number; hungUp: number }> {
  return (await peers.get('n2', '/seen')).value as { requests: number; hungUp: number }
}

function unreached(message: string, sent = false): unknown {
  return expect.objectContaining({ error: { code: 'E_PEER', message: expect.stringContaining(message) as unknown, hint: expect.stringMatching(/\S\.$/) as unknown, sent } })
}

describe('a request to the daemon of another node', () => {
  test('reaches stintd as it is installed, which says who it is', async () => {
    await using peers = client({}, {})
    expect((await peers.get('n2', '/v1/peer/hello')).value).toEqual({ node: 'n2', version: expect.stringMatching(/^\d+\.\d+\.\d+$/) })
    expect((await peers.send({ node: 'n3', verb: 'connect' }).outcome).error).toBeUndefined()
  })

  test('that is refused there has the error it had there', async () => {
    await using peers = client({}, {})
    expect((await peers.get('n2', '/v1/peer/hello?x=1')).error).toMatchObject({ code: 'E_BAD_REQUEST', message: 'unknown key "x"; known: none' })
    await using toStandIn = client()
    expect((await toStandIn.get('n2', '/busy')).error).toEqual({ code: 'E_BUSY', message: 'job 5 is being saved', hint: 'Wait.', sent: false })
  })

  test('brings its body there and the answer back, however large', async () => {
    await using peers = client()
    const body = { text: 'naïve', list: [1, null] }
    expect((await peers.send({ node: 'n2', method: 'POST', path: '/echo', body }).outcome).value).toEqual({ method: 'POST', type: 'application/json', body: JSON.stringify(body) })
    expect((await peers.get('n2', '/echo')).value).toEqual({ method: 'GET', type: null, body: '' })
    expect((await peers.get('n2', '/large?bytes=20000000')).value).toHaveLength(20_000_000)
    expect((await peers.send({ node: 'n2', method: 'POST', path: '/echo', body: 'y'.repeat(5_000_000) }).outcome).value).toMatchObject({ body: expect.stringMatching(/^"y{1000}/) })
  })

  test('waits for no other: fifty at once take as long as one, over one connection', async () => {
    await using peers = client()
    await peers.send({ node: 'n2', verb: 'connect' }).outcome
    const before = await connections()
    const started = Date.now()
    const outcomes = await Promise.all(Array.from({ length: 50 }, async () => peers.get('n2', '/late?ms=1000')))
    expect(outcomes.map((outcome) => outcome.value)).toEqual(Array(50).fill({ late: true }))
    expect(Date.now() - started).toBeLessThan(3000)
    expect(await connections()).toBe(before)
  })

  test('answered by something else is told what that was', async () => {
    await using peers = client()
    expect((await peers.get('n2', '/garbage')).error).toMatchObject({ code: 'E_INTERNAL', message: 'stintd of n2 answered no JSON: <html>' })
    expect((await peers.get('n2', '/unknown')).error).toMatchObject({ code: 'E_INTERNAL', message: expect.stringContaining('stintd of n2 answered 418') })
    expect(await peers.get('n2', '/half')).toEqual(unreached('n2: no answer to GET /half: ', true))
  })
})

describe('host keys', () => {
  /** Asks n2 with a known_hosts file of these lines; `KEY2` and `KEY3` stand for the keys of n2 and n3. */
  async function askKnowing(lines: string, extra: Config[string] = {}): Promise<Outcome> {
    await on('n1', `cd ${folder} && cat > lines && key() { awk -v n="^$1," '$1 ~ n { print $2, $3 }' /etc/ssh/ssh_known_hosts; } && sed "s|KEY2|$(key n2)|; s|KEY3|$(key n3)|" lines > known`, { input: lines })
    await using peers = client({ known_hosts: [`${folder}/none`, `${folder}/known`], ...extra })
    return await peers.get('n2', '/echo')
  }
  const answered = expect.objectContaining({ value: { method: 'GET', type: null, body: '' } }) as unknown

  test('that are on file are trusted', async () => {
    expect(await askKnowing('n3 KEY3\nn2 KEY2\n')).toEqual(answered)
    expect(await askKnowing('n* KEY3\nn2 KEY2\n')).toEqual(answered)
  })

  test('are found by hashed names as ssh-keygen makes them', async () => {
    await askKnowing('n2,x KEY2\n')
    await on('n1', `cd ${folder} && ssh-keygen -q -H -f known && ! grep '^n2' known && cp known hashed`)
    await using peers = client({ known_hosts: [`${folder}/hashed`] })
    expect(await peers.get('n2', '/echo')).toEqual(answered)
  })

  test.each([
    ['on no file', '', 'no host key of n2 in /run/stint-test/none or /run/stint-test/known'],
    ['another than on file', 'n2 KEY3\n', 'shows another host key than /run/stint-test/known line 1 has'],
    ['known of another node only', 'n3 KEY2\n', 'no host key of n2 in'],
    ['revoked', 'n2 KEY2\n@revoked * KEY2\n', 'shows a host key that is revoked by /run/stint-test/known line 2'],
    ['known as an authority only', '@cert-authority n2 KEY2\n', 'no host key of n2 in'],
    ['of no kind that is understood', 'n2 ssh-dss AAAA\n', 'no host key of n2 in'],
    ['of another kind than on file', 'n2 ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==\n', 'has no host key of a type that /run/stint-test/known line 1 has'],
  ])('%s are refused, with the file and what to do', async (_, lines, message) => {
    expect(await askKnowing(lines)).toEqual(unreached(message))
  })

  test('of several kinds are asked for by the kind that is known, and found by their port', async () => {
    await on('n2', `ssh-keygen -q -t rsa -N '' -f ${folder}/rsa`)
    await withSshd('n2', 2301, `-h ${folder}/rsa -h /etc/ssh/ssh_host_ed25519_key`, async () => {
      const key = (await on('n2', `cut -d' ' -f1,2 ${folder}/rsa.pub`)).trim()
      expect(await askKnowing(`[n2]:2301 ${key}\nn2 KEY3\n`, { ssh_port: 2301 })).toEqual(answered)
      expect(await askKnowing('n2 KEY2\n', { ssh_port: 2301 })).toEqual(answered)
      expect(await askKnowing('[n2]:2301 KEY3\nn2 KEY2\n', { ssh_port: 2301 })).toEqual(unreached('shows another host key'))
    })
  })
})

describe('a node that cannot be reached', () => {
  test('for want of sshd, of stintd, of an address, of an answer is told apart', async () => {
    await using peers = client({ attempts: 1, ssh_port: 2302 })
    expect(await peers.get('n2', '/echo')).toEqual(unreached('no sshd listens at n2 port 2302'))
    await using withoutDaemon = client({ attempts: 1 }, { peer_socket: `${folder}/none.sock` })
    expect(await withoutDaemon.get('n2', '/echo')).toEqual(unreached('sshd there reaches no stintd at /run/stint-test/none.sock'))
    await on('n1', `cd ${folder} && sed 's/^n2,[^ ]*/n77/' /etc/ssh/ssh_known_hosts > odd`)
    await using withoutAddress = client({ known_hosts: [`${folder}/odd`] })
    expect(await withoutAddress.get('n77', '/echo')).toEqual(unreached('n77 has no address'))
  })

  test('because its sshd takes the connection and says nothing is given up in time', async () => {
    await withSshd('n2', 2303, '', async () => {
      await on('n2', 'kill -STOP $(cat /run/sshd-2303.pid)')
      await using peers = client({ ssh_port: 2303, connect_timeout_seconds: 1 })
      const outcome = await peers.get('n2', '/echo')
      await on('n2', 'kill -CONT $(cat /run/sshd-2303.pid)')
      expect(outcome).toEqual(unreached('n2 port 2303 did not finish the SSH handshake within 1 s'))
      expect(outcome.ms).toBeLessThan(2000)
    })
  })

  test('because a packet filter swallows what is sent to it is given up in time', async () => {
    await on('n2', "nft 'table inet stint_test { chain c { type filter hook input priority 0; tcp dport 22 drop; }; }'")
    await using peers = client({ connect_timeout_seconds: 1 })
    const outcome = await peers.get('n2', '/echo')
    await on('n2', 'nft delete table inet stint_test')
    expect(outcome).toEqual(unreached('did not finish the SSH handshake within 1 s'))
    expect(outcome.ms).toBeLessThan(2000)
  })

  test('because sshd forwards nothing to Unix sockets is told what to allow', async () => {
    await withSshd('n2', 2304, '-o AllowStreamLocalForwarding=no', async () => {
      await using peers = client({ ssh_port: 2304, attempts: 1 })
      const { error } = await peers.get('n2', '/echo')
      expect(error).toMatchObject({ code: 'E_PEER', message: expect.stringContaining('n2: sshd there reaches no stintd at'), hint: expect.stringContaining('AllowStreamLocalForwarding') })
    })
  })

  test('for want of a key, with a key that sshd does not take, or one with a passphrase is told so', async () => {
    await on('n1', `cd ${folder} && rm -f other locked && ssh-keygen -q -t ed25519 -N '' -f other && ssh-keygen -q -t ed25519 -N secret -f locked`)
    for (const [key, message] of [['none', '/run/stint-test/none cannot be read'], ['other', 'sshd does not take /run/stint-test/other for root'], ['locked', '/run/stint-test/locked is no usable private key'], ['known', 'is no usable private key']] as const) {
      await using peers = client({ ssh_key: `${folder}/${key}` })
      expect(await peers.get('n2', '/echo')).toEqual(unreached(message))
    }
  })
})

test('a key that reaches the peer socket and may do nothing else is enough', async () => {
  const line = (await on('n1', 'grep -h "restrict,port-forwarding" /opt/stint/docs/operations.md')).trim()
  expect(line).toMatch(/ssh-ed25519 KEY$/)
  await on('n2', `install -d -m 0700 ${folder}/keys && sed "s|ssh-ed25519 KEY|$(cut -d' ' -f1,2 /root/.ssh/id_ed25519.pub)|" > ${folder}/keys/root`, { input: `${line}\n` })
  expect(line).toContain('permitopen="[/run/stint/peer.sock]:*"')
  await withSshd('n2', 2305, `-o AuthorizedKeysFile=${folder}/keys/%u -o AllowTcpForwarding=local -o AllowStreamLocalForwarding=local`, async () => {
    await using peers = client({ ssh_port: 2305, attempts: 1 }, {})
    expect((await peers.get('n2', '/v1/peer/hello')).error).toBeUndefined()
    await using toOther = client({ ssh_port: 2305, attempts: 1 })
    expect(await toOther.get('n2', '/echo')).toEqual(unreached('sshd there reaches no stintd'))
    const ssh = 'ssh -o BatchMode=yes -p 2305'
    expect((await tryOn('n1', `${ssh} n2 touch ${folder}/touched`)).exitCode).not.toBe(0)
    expect((await tryOn('n1', `${ssh} -W localhost:22 n2 </dev/null`)).stderr).toContain('administratively prohibited')
    expect((await tryOn('n1', `${ssh} -o ExitOnForwardFailure=yes -N -R ${folder}/back.sock:localhost:22 n2`)).exitCode).not.toBe(0)
    expect((await tryOn('n2', `ls ${folder}/touched`)).exitCode).not.toBe(0)
  })
})

describe('a connection', () => {
  test('that ends while nobody uses it is made anew by the next request', async () => {
    await using peers = client()
    await peers.get('n2', '/echo')
    await on('n2', `kill $(${sessions})`)
    const outcome = await peers.get('n2', '/echo')
    expect(outcome.error).toBeUndefined()
  })

  test('that ends with requests under way rejects them at once, whether answered in part or not, and none is sent again', async () => {
    await using peers = client()
    const before = await seen(peers)
    const underWay = ['/late?ms=20000', '/stall'].map((path) => peers.send({ node: 'n2', path }))
    await sleep(500)
    await on('n2', `kill -KILL $(${sessions})`)
    const outcomes = await Promise.all(underWay.map(async ({ outcome }) => outcome))
    expect(outcomes).toEqual(Array(2).fill(unreached('n2: ', true)))
    expect(Math.max(...outcomes.map(({ ms }) => ms))).toBeLessThan(2000)
    expect((await seen(peers)).requests).toBe(before.requests + 2)
  })

  test.each([
    ['the link is cut', "nft 'table inet stint_test { chain i { type filter hook input priority 0; tcp dport 22 drop; }; chain o { type filter hook output priority 0; tcp sport 22 drop; }; }'", 'nft delete table inet stint_test'],
    ['the machine is frozen', `kill -STOP $(${sessions})`, `kill -KILL $(${sessions})`],
  ])('of which nothing more is heard (%s) is given up after the configured time, with every request on it', async (_, cut, mend) => {
    await using peers = client({ dead_after_seconds: 3, connect_timeout_seconds: 2 })
    await peers.get('n2', '/echo')
    const underWay = [1, 2, 3].map(() => peers.send({ node: 'n2', path: '/late?ms=60000', timeoutSeconds: 60 }))
    await sleep(500)
    const started = Date.now()
    await on('n2', cut)
    try {
      const outcomes = await Promise.all(underWay.map(async ({ outcome }) => outcome))
      expect(outcomes).toEqual(Array(3).fill(unreached('n2: ', true)))
      expect(Date.now() - started).toBeGreaterThan(1500)
      expect(Date.now() - started).toBeLessThan(5000)
    } finally {
      await on('n2', mend)
    }
    expect((await peers.get('n2', '/echo')).error).toBeUndefined()
  })

  test('that nobody uses is closed after a while, and lives while it is used', async () => {
    await using peers = client({ idle_seconds: 1 })
    const before = await connections()
    const late = peers.send({ node: 'n2', path: '/late?ms=3000' })
    await sleep(2500)
    expect(await connections()).toBe(before + 1)
    expect((await late.outcome).error).toBeUndefined()
    await until('the connection is closed', 10, async () => (await connections()) === before)
    expect((await peers.get('n2', '/echo')).error).toBeUndefined()
  })
})

describe('a daemon on the other node', () => {
  test('that starts again is waited for', async () => {
    await using peers = client({ attempts: 40 }, {})
    await peers.get('n2', '/v1/peer/hello')
    await cluster('daemon', 'n2', 'stop')
    const waiting = peers.get('n2', '/v1/peer/hello', 30)
    await sleep(1000)
    await cluster('daemon', 'n2', 'start')
    expect((await waiting).error).toBeUndefined()
  })

  test('that dies with a request under way rejects it at once, and it is not sent to the next one', async () => {
    const other = '/run/stint-test/dying.sock'
    await standInOn('n2', other)
    await using peers = client({}, { peer_socket: other })
    const outcome = await peers.send({ node: 'n2', method: 'POST', path: '/die' }).outcome
    expect(outcome).toEqual(unreached('n2: no answer to POST /die: ', true))
    expect(outcome.ms).toBeLessThan(2000)
  })
})

describe('a caller', () => {
  test('that gives up has its answer at once, and the peer learns of it', async () => {
    await using peers = client()
    const { hungUp } = await seen(peers)
    const late = peers.send({ node: 'n2', path: '/late?ms=30000' })
    await sleep(500)
    late.abort()
    const outcome = await late.outcome
    expect(outcome).toEqual(unreached('no answer to GET /late?ms=30000: ', true))
    expect(outcome.ms).toBeLessThan(2000)
    await until('the peer has seen the end', 5, async () => (await seen(peers)).hungUp === hungUp + 1)
  })

  test('that gives up while connecting leaves the others waiting', async () => {
    await withSshd('n2', 2306, '', async () => {
      await on('n2', 'kill -STOP $(cat /run/sshd-2306.pid)')
      await using peers = client({ ssh_port: 2306 })
      const [first, second] = [peers.send({ node: 'n2', path: '/echo' }), peers.send({ node: 'n2', path: '/echo' })]
      await sleep(1000)
      first.abort()
      const outcome = await first.outcome
      expect(outcome).toEqual(unreached('n2: given up: '))
      await on('n2', 'kill -CONT $(cat /run/sshd-2306.pid)')
      expect((await second.outcome).error).toBeUndefined()
    })
  })

  test('that has set a limit waits no longer', async () => {
    await using peers = client()
    await peers.get('n2', '/echo')
    const outcome = await peers.get('n2', '/late?ms=30000', 1)
    expect(outcome).toEqual(unreached('n2: GET /late?ms=30000 took longer than 1 s', true))
    expect(outcome.ms).toBeLessThan(1500)
    const stalled = await peers.get('n2', '/stall', 1)
    expect(stalled).toEqual(unreached('n2: GET /stall took longer than 1 s', true))
    expect(stalled.ms).toBeLessThan(1500)
    expect((await peers.get('n2', '/echo')).error).toBeUndefined()
  })

  test('that ends leaves no connection, and what was under way has an answer', async () => {
    const before = await connections()
    const peers = client()
    await peers.get('n2', '/echo')
    const late = peers.send({ node: 'n2', path: '/late?ms=60000', timeoutSeconds: 60 })
    await sleep(500)
    expect(await connections()).toBe(before + 1)
    const { exitCode } = await peers.end()
    expect(exitCode).toBe(0)
    expect(await late.outcome).toEqual(unreached('stintd is stopping', true))
    await until('the connection is closed', 5, async () => (await connections()) === before)
  })
})
