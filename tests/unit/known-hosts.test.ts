import { describe, expect, test } from '@jest/globals'
import { createHmac } from 'node:crypto'
import { findHost, hostKeyAlgorithms, judgeHostKey, knownNames, parseKnownHosts } from '../../daemon/cluster/known-hosts.ts'

const blob = (text: string): string => Buffer.from(text).toString('base64')
const [a, b] = [blob('key a'), blob('key b')]

/** The keys that n2 may show by a file of these lines, and those it must not. */
function look(lines: string, names: readonly string[] = ['n2']): { trusted: string[]; revoked: string[] } {
  const { trusted, revoked } = findHost(parseKnownHosts(lines, '/k'), names)
  return { trusted: trusted.map((key) => key.key), revoked: revoked.map((key) => key.key) }
}

function hashed(name: string, salt = 'twenty bytes of salt'): string {
  return `|1|${blob(salt)}|${createHmac('sha1', salt).update(name).digest('base64')}`
}

describe('a line of known_hosts', () => {
  test.each([
    ['its name', 'n2'], ['another case', 'N2'], ['one of several names', 'x,n2,10.0.0.2'], ['*', '*'], ['a pattern', 'n*'], ['a pattern of one character', 'n?'],
    ['a hash', hashed('n2')], ['a comment behind it', 'n2'],
  ])('counts for a host by %s', (_, hosts) => {
    expect(look(`${hosts} ssh-ed25519 ${a} root@somewhere else`).trusted).toEqual([a])
  })

  test.each([
    ['another name', 'n22'], ['a name within', 'xn2x'], ['a pattern for others', 'm*'], ['a point that is a point', 'n.'], ['a hash of another name', hashed('n3')], ['a hash of an unknown kind', hashed('n2').replace('|1|', '|2|')],
    ['a negation', '!n2'], ['a negation after it', 'n*,!n2'], ['a negated pattern before it', '!n?,n2'], ['a port', '[n2]:2222'], ['a comment sign', '#n2'], ['a hash cut off', '|1|'], ['brackets of expressions', '[n]2'],
  ])('does not count by %s', (_, hosts) => {
    expect(look(`${hosts} ssh-ed25519 ${a}`).trusted).toEqual([])
  })

  test.each(['', '   ', '#', 'n2', 'n2 ssh-ed25519', '@revoked', '@revoked n2', '@cert-authority n2 ssh-ed25519', '\u0000 \u0000', 'n2,', '|||'])('that is %j is passed over, and those after it count', (line) => {
    expect(look(`${line}\nn2 ssh-ed25519 ${a}`)).toEqual({ trusted: [a], revoked: [] })
  })

  test('with a marker trusts nothing: an authority is not asked, a revoked key is named', () => {
    expect(look(`@cert-authority * ssh-ed25519 ${a}\n@revoked n* ssh-ed25519 ${b}\n@new n2 ssh-ed25519 ${a}`)).toEqual({ trusted: [], revoked: [b] })
  })

  test('may end as files of other systems do', () => {
    expect(look(`\tn2  ssh-ed25519\t${a}\r\n`).trusted).toEqual([a])
  })
})

describe('a host with several names', () => {
  test('has the keys of the first that has any: an address cannot stand in for a name', () => {
    const lines = `10.0.0.2 ssh-ed25519 ${b}\nn2 ssh-ed25519 ${a}`
    expect(look(lines, ['n2', '10.0.0.2']).trusted).toEqual([a])
    expect(look(lines, ['n3', '10.0.0.2']).trusted).toEqual([b])
  })

  test('has the revoked keys of all', () => {
    expect(look(`n2 ssh-ed25519 ${a}\n@revoked 10.0.0.2 ssh-ed25519 ${a}`, ['n2', '10.0.0.2'])).toEqual({ trusted: [a], revoked: [a] })
  })

  test('on another port stands there with it, or else without', () => {
    expect(knownNames(['n2', '10.0.0.2'], 2222)).toEqual(['[n2]:2222', 'n2', '[10.0.0.2]:2222', '10.0.0.2'])
    expect(knownNames(['n2', 'n2'], 22)).toEqual(['n2'])
    expect(look(`[n2]:2222 ssh-ed25519 ${a}\nn2 ssh-ed25519 ${b}`, knownNames(['n2'], 2222)).trusted).toEqual([a])
    expect(look(`${hashed('[n2]:2222')} ssh-ed25519 ${a}`, knownNames(['n2'], 2222)).trusted).toEqual([a])
  })
})

describe('a host key', () => {
  const known = findHost(parseKnownHosts(`n2 ssh-ed25519 ${a}\nn2 ssh-rsa ${b}\n@revoked * ssh-rsa ${b}`, '/k'), ['n2'])

  test('is trusted when it is on file, and revoked before that', () => {
    expect(judgeHostKey(known, Buffer.from('key a'))).toBe('trusted')
    expect(judgeHostKey(known, Buffer.from('key b'))).toEqual({ revokedBy: expect.objectContaining({ file: '/k', line: 3 }) })
  })

  test.each(['', 'key', 'key a\0', 'key A'])('%j is unknown', (shown) => {
    expect(judgeHostKey(known, Buffer.from(shown))).toBe('unknown')
  })

  test('is asked for by the types that are known, RSA never with SHA-1, unknown types not at all', () => {
    expect(hostKeyAlgorithms(known)).toEqual(['ssh-ed25519', 'rsa-sha2-512', 'rsa-sha2-256'])
    const odd = findHost(parseKnownHosts(`n2 ssh-dss ${a}\nn2 sk-ssh-ed25519@openssh.com ${a}\nn2 __proto__ ${a}`, '/k'), ['n2'])
    expect(hostKeyAlgorithms(odd)).toEqual([])
  })
})
