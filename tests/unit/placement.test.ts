import { describe, expect, test } from '@jest/globals'
import { hostsOf, placeMembers } from '../../daemon/core/placement.ts'
import { said } from '../support/errors.ts'

describe('members in a new allocation', () => {
  test.each([
    ['the same nodes', ['n1', 'n2', 'n3'], 'n1', ['n1', 'n2', 'n3']],
    ['all others', ['n4', 'n5', 'n6'], 'n4', ['n4', 'n5', 'n6']],
    ['one node less and one more: the others stay', ['n2', 'n3', 'n4'], 'n2', ['n2', 'n4', 'n3']],
    ['the batch script on what was another member\'s node', ['n3', 'n1', 'n2'], 'n3', ['n3', 'n2', 'n1']],
    ['more nodes than members: the rest is not used', ['n1', 'n2', 'n3', 'n4'], 'n1', ['n1', 'n2', 'n3']],
  ])('%s', (_what, allocated, batchHost, placed) => {
    expect(placeMembers(['n1', 'n2', 'n3'], allocated, batchHost)).toEqual(placed)
  })

  test('are refused when there are more of them than nodes', async () => {
    expect(await said(() => placeMembers(['n1', 'n2', 'n3'], ['n1', 'n2'], 'n1'))).toBe('E_TOO_FEW_NODES: the run has 3 members, this allocation 2 nodes')
  })
})

test('a first allocation has its batch host first, whatever Slurm\'s order', () => {
  expect(hostsOf(['n1', 'n2', 'n3'], 'n2')).toEqual(['n2', 'n1', 'n3'])
})
