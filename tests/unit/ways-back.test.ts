import { describe, expect, test } from '@jest/globals'
import { optionsLike } from '../../daemon/core/sbatch-options.ts'
import { crashSignal, nextWay } from '../../daemon/core/ways-back.ts'

const open = { checkpoint: 2, final: false }
const final = { checkpoint: 1, final: true }

describe('the way on when no checkpoint could be restored', () => {
  test.each([
    ['elsewhere', [open, final], true, 'hold'],
    ['elsewhere', [open], true, 'start'],
    ['hold', [open], false, 'hold'],
    ['hold', [open, final], false, 'start'], // What another try might restore is not given up for a fresh start.
    ['start', [final], true, 'start'],
    ['hold', [final], true, 'hold'],
    ['start', [], true, 'start'],
    ['hold', [], false, 'hold'],
  ] as const)('is %s after %j with another node: %s and fallback=%s', (way, failed, otherNode, fallback) => {
    expect(nextWay(failed, otherNode, fallback)).toBe(way)
  })
})

describe('a crash', () => {
  test.each([[11, 11], [0x80 | 6, 6], [(128 + 4) << 8, 4], [(128 + 11) << 8, 11]])('is wait status %d: signal %d', (status, signal) => {
    expect(crashSignal(status)).toBe(signal)
  })

  test.each([['success', 0], ['exit 5', 5 << 8], ['exit 128', 128 << 8], ['SIGTERM', 15], ['SIGKILL', 9], ['exit 143', 143 << 8], ['exit 137', 137 << 8], ['exit 11', 11 << 8]])('is not %s', (_, status) => {
    expect(crashSignal(status)).toBeUndefined()
  })
})

describe('options of sbatch for a job like another', () => {
  const text = [
    'JobId=7 JobName=my job', '   UserId=alice(1001) GroupId=alice(1001) MCS_label=N/A', '   Priority=1 Nice=0 Account=(null) QOS=(null)',
    '   RunTime=00:00:10 TimeLimit=00:10:00 TimeMin=N/A', '   Partition=batch AllocNode:Sid=ctl:1', '   NumNodes=1 NumCPUs=2 NumTasks=2 CPUs/Task=1 ReqB:S:C:T=0:0:*:*',
    '   MinCPUsNode=1 MinMemoryCPU=1500M MinTmpDiskNode=0', '   Features=avx512 DelayBoot=00:00:00', '   ReqNodeList=(null) ExcNodeList=n[4-5]', '   WorkDir=/home/a b', '   StdErr=/home/a b/50%.err', '   StdIn=/dev/null', '   StdOut=/home/a b/slurm-7.out',
  ].join('\n')

  test('are what Slurm tells of it; output goes on in the same files', () => {
    expect(optionsLike(text)).toEqual([
      '--job-name=my job', '--partition=batch', '--time=00:10:00', '--nodes=1', '--ntasks=2', '--cpus-per-task=1', '--mem-per-cpu=1500M', '--constraint=avx512', '--exclude=n[4-5]', '--chdir=/home/a b',
      '--output=/home/a b/slurm-7.out', '--error=/home/a b/50%%.err', '--open-mode=append',
    ])
  })
})
