import { beforeAll } from '@jest/globals'
import { execa } from 'execa'
import { clusterCommand, clusterIsUp } from './cluster.ts'

/** The first file of a worker may have to build the nodes' root file system. */
const minutes = 10

beforeAll(async () => {
  if (clusterIsUp()) return
  await execa(clusterCommand, ['up', ...(process.env['STINT_TEST_MACHINE'] === 'vm' ? [] : ['--nodes', '5'])], { stdin: 'ignore', stdout: 'inherit', stderr: 'inherit' })
}, minutes * 60_000)
