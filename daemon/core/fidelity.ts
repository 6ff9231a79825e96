/**
 * What survives a move: every kind of kernel state with who brings it back and what a difference means. The ledger words its notices by
 * it, and `npm run docs` writes docs/reference/fidelity.md from it.
 */

export type Outcome = 'restored by CRIU' | 'put back by us' | 'refused at the save' | 'told to the owner' | 'different in silence'

interface Attribute {
  readonly of: 'thread' | 'process'
  readonly says: string
  readonly outcome: 'put back by us' | 'told to the owner'
  /** What a difference means for the program. */
  readonly means: string
}

/** Numbers that the kernel keeps of threads and processes, by the names of plugins/spank/ledger/ledger_attributes.c. */
export const attributeKinds = {
  'io-priority': { of: 'thread', says: 'I/O priority', outcome: 'put back by us', means: 'its disk accesses wait more or less than it asked for' },
  'timer-slack': { of: 'thread', says: 'timer slack (nanoseconds)', outcome: 'put back by us', means: 'its timers are more or less exact' },
  'time-slice': { of: 'thread', says: 'time slice (nanoseconds)', outcome: 'put back by us', means: 'it is interrupted more or less often' },
  'dump-filter': { of: 'process', says: 'coredump_filter', outcome: 'put back by us', means: 'a core dump has more or less in it' },
  'autogroup-nice': { of: 'process', says: 'nice value of the autogroup (20 is 0)', outcome: 'put back by us', means: 'its session has more or less of a shared CPU' },
  'memory-failure': { of: 'thread', says: 'policy for memory failures (PR_MCE_KILL)', outcome: 'told to the owner', means: 'only the thread itself can set it again; until then the system\'s policy holds' },
  'personality': { of: 'process', says: 'personality', outcome: 'told to the owner', means: 'only the process itself can set it again; until then programs it starts have addresses at random, and mappings and version numbers as usual' },
  'memory-merging': { of: 'process', says: 'KSM of all its memory (PR_SET_MEMORY_MERGE)', outcome: 'told to the owner', means: 'equal pages are not merged until it sets that again: it may need more memory' },
} as const satisfies Readonly<Record<string, Attribute>>
export type AttributeName = keyof typeof attributeKinds

export interface Kind {
  readonly kind: string
  readonly outcome: Outcome
  /** How, or why not, and what a difference means. */
  readonly how: string
  /** Move cases in tests/fixtures/moves that show it, without `.sh`. */
  readonly cases: readonly string[]
}

const attributeRows: readonly Kind[] = Object.values(attributeKinds).map(({ of, says, outcome, means }) => ({
  kind: `${says}, ${of}`, outcome, how: outcome === 'told to the owner' ? `Compared. ${means[0]?.toUpperCase() ?? ''}${means.slice(1)}.` : 'Set again from outside.',
  cases: [outcome === 'told to the owner' ? 'attributes-told' : 'attributes'],
}))

/** Sections of the page. What has no case is what a probe saw once (Linux 6.18, CRIU 4.2.1), and stands here so that nobody takes it for more. */
export const fidelity: Readonly<Record<string, readonly Kind[]>> = {
  'Threads and processes': [
    { kind: 'CPUs', outcome: 'put back by us', how: 'The same places among the CPUs of the new allocation; told where there are fewer.', cases: ['affinity'] },
    ...attributeRows,
    { kind: 'user, groups, capabilities, no_new_privs, seccomp filters, dumpable', outcome: 'restored by CRIU', how: 'Compared before the first instruction; a difference refuses the restore.', cases: [] },
    { kind: 'scheduling policy, nice, rlimits, oom_score_adj, umask, subreaper, pdeathsig, keep-caps, robust lists, rseq, signal stack, name', outcome: 'restored by CRIU', how: '', cases: [] },
    { kind: 'processes that are stopped', outcome: 'restored by CRIU', how: 'With the capability kill, which the restore has for this alone.', cases: ['stopped'] },
    { kind: 'a thread\'s own working directory or descriptors', outcome: 'refused at the save', how: 'CRIU gives the thread the process\'s.', cases: ['thread-own-fs', 'thread-own-files'] },
    { kind: 'Landlock', outcome: 'refused at the save', how: 'Its rules cannot be read from outside; libraries that ask first are told that there is none.', cases: ['landlock-insists', 'landlock-asked', 'landlock-over'] },
    { kind: 'mitigations against speculation (PR_SET_SPECULATION_CTRL)', outcome: 'refused at the save', how: 'A protection that only the thread itself can switch on again.', cases: ['speculation'] },
    { kind: 'session keyring', outcome: 'told to the owner', how: 'Keys cannot be read from outside.', cases: ['session-key'] },
    { kind: 'MDWE (PR_SET_MDWE), memory policy (set_mempolicy, mbind), mlockall(MCL_FUTURE), PR_THP_DISABLE_EXCEPT_ADVISED', outcome: 'different in silence', how: 'Back to the default. /proc does not show them; setting them needs a call inside the process.', cases: [] },
    { kind: 'SEM_UNDO of System V semaphores', outcome: 'different in silence', how: 'The undo is forgotten: a semaphore keeps what a process that ends later had added. /proc does not show it.', cases: [] },
    { kind: 'processor time (times(), clock(), getrusage()), start time', outcome: 'different in silence', how: 'Counts from zero in each allocation; no kernel interface sets it. RLIMIT_CPU counts anew as well.', cases: [] },
  ],
  'Descriptors': [
    { kind: 'options of sockets, multicast groups, owners of sockets', outcome: 'put back by us', how: 'Told where the new node refuses.', cases: ['socket-options', 'multicast', 'socket-owners'] },
    { kind: 'timerfds set to a time of day', outcome: 'put back by us', how: 'An instant that has passed fires at once.', cases: ['timer-by-the-clock'] },
    { kind: 'POSIX timers set to a time of day', outcome: 'refused at the save', how: 'Only the process itself can set them again.', cases: ['absolute-timer'] },
    { kind: 'flags, F_SETOWN of processes, F_SETSIG, pipe sizes and contents, seals, flock, OFD and POSIX locks, positions, signalfd, ptys', outcome: 'restored by CRIU', how: '', cases: [] },
    { kind: 'eventfd with EFD_SEMAPHORE', outcome: 'refused at the save', how: 'It would become a plain one: the next read returns the whole count.', cases: ['eventfd-semaphore'] },
    { kind: 'leases', outcome: 'restored by CRIU', how: 'Refused at the save where the file must be opened for it.', cases: ['lease', 'lease-tmp'] },
    { kind: 'datagrams and inotify events that wait unread', outcome: 'told to the owner', how: 'CRIU drops them.', cases: ['unread'] },
    { kind: 'IN_ONESHOT and IN_EXCL_UNLINK of inotify watches', outcome: 'told to the owner', how: 'The program may be told more often.', cases: ['unread'] },
    { kind: 'edge-triggered epoll', outcome: 'different in silence', how: 'What is ready is reported once more, as epoll(7) allows.', cases: [] },
    { kind: 'O_TMPFILE', outcome: 'different in silence', how: 'The file is there; linkat() to a name fails with EXDEV.', cases: [] },
    { kind: 'F_NOTIFY, epoll\'s EPIOCSPARAMS, SO_LOCK_FILTER, error queues, sender\'s name of Unix datagrams that wait unread, urgent data of Unix sockets', outcome: 'different in silence', how: 'Gone. The kernel does not show them without side effects, or only where nothing was found to use them.', cases: [] },
    { kind: 'F_SETOWN_EX of a thread or a group that has no process of this number', outcome: 'different in silence', how: 'The save works and the restore fails: `Can\'t setup file owner pid`.', cases: [] },
  ],
  'Files': [
    { kind: '/tmp and /dev/shm', outcome: 'put back by us', how: 'Times but ctime, attributes, ACLs, holes, links. Inode numbers, ctime and the order of readdir() are new.', cases: ['tmp-times', 'deep-tmp'] },
    { kind: 'deleted open files', outcome: 'restored by CRIU', how: 'Times to the microsecond, holes; extended attributes are lost.', cases: [] },
  ],
  'Memory': [
    { kind: 'contents, protections, locks of ranges, MADV_DONTFORK, WIPEONFORK, DONTDUMP, HUGEPAGE, MERGEABLE, guard pages', outcome: 'restored by CRIU', how: '', cases: [] },
    { kind: 'huge pages', outcome: 'different in silence', how: 'Small pages until khugepaged merges them: slower, never wrong.', cases: [] },
    { kind: 'protection keys, mseal, MLOCK_ONFAULT', outcome: 'different in silence', how: 'The memory is accessible, unsealed, locked at once. Showing them needs a walk over all pages (smaps).', cases: [] },
  ],
  'Time': [
    { kind: 'CLOCK_MONOTONIC, CLOCK_BOOTTIME', outcome: 'restored by CRIU', how: 'Go on, without the time in the queue.', cases: [] },
  ],
}
