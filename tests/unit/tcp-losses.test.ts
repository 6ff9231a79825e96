import { describe, expect, test } from '@jest/globals'
import { errorNotes, outsideNotes, parseFindings, unsentObstacles, urgentObstacles } from '../../daemon/core/tcp-losses.ts'

const writer = { pid: 1003, parent: 1000, comm: 'writer', state: 'S', tracer: 0, userNamespace: undefined, sockets: ['77'], anonymous: [] }
const to = (inode: string, unsentBytes: number) => [{ inode, remoteAddress: '127.0.0.1', remotePort: 80, unsentBytes }]

const inside = (address: string): boolean => address === '127.0.0.1'

describe('data that has not arrived', () => {
  test('of a closed connection is lost with its sandbox', () => {
    expect(unsentObstacles(to('0', 5), [writer], 'private', inside)).toMatchObject([{ kind: 'unsent-data', message: expect.stringContaining('5 bytes of a connection to 127.0.0.1:80') as unknown }])
    expect(unsentObstacles(to('0', 5), [writer], 'host', inside)).toEqual([])
  })

  test('of an open connection is saved, and cannot be restored in the node\'s own network', () => {
    expect(unsentObstacles(to('77', 5), [writer], 'private', inside)).toEqual([])
    expect(unsentObstacles(to('77', 5), [writer], 'host', inside)).toMatchObject([{ kind: 'unsent-data', message: expect.stringContaining('writer (PID 1003') as unknown }])
  })

  test('for the outside is told', () => {
    const outside = [{ inode: '0', remoteAddress: '10.0.0.1', remotePort: 80, unsentBytes: 5 }]
    expect(unsentObstacles(outside, [writer], 'private', inside)).toEqual([])
    expect(outsideNotes(outside, 'private', inside)).toEqual([expect.stringContaining('5 bytes of a connection to 10.0.0.1:80')])
    expect(outsideNotes(outside, 'host', inside)).toEqual([])
    expect(outsideNotes(to('0', 5), 'private', inside)).toEqual([])
  })

  test('is no matter where there is none, or of others', () => {
    for (const net of ['private', 'host'] as const) {
      expect(unsentObstacles(to('0', 0), [writer], net, inside)).toEqual([])
      expect(unsentObstacles(to('77', 0), [writer], net, inside)).toEqual([])
      expect(unsentObstacles(to('78', 5), [writer], net, inside)).toEqual([])
    }
  })
})

describe('what a look at the sockets has found', () => {
  const found = parseFindings('1003 9 urgent\n1003 10 error\n\nnonsense')

  test('is told line by line', () => {
    expect(found).toEqual([{ pid: 1003, fd: 9, what: 'urgent' }, { pid: 1003, fd: 10, what: 'error' }])
  })

  test('stands in the way when it is an urgent byte, and is told when it is an error', () => {
    expect(urgentObstacles(found, [writer])).toMatchObject([{ kind: 'urgent-data', message: expect.stringContaining('writer (PID 1003') as unknown }])
    expect(errorNotes(found, [writer])).toEqual([expect.stringMatching(/connection 10 of writer .*end of file/)])
  })
})
