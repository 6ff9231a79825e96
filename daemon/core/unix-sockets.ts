/** A bound Unix socket, as /proc/PID/net/unix has it; abstract names are no paths. */
export interface BoundUnixSocket {
  readonly inode: string
  /** `0001` a stream, `0002` datagrams, `0005` packets in sequence. */
  readonly type: string
  /** `03`: connected. */
  readonly state: string
  /** As it was bound by: may be relative. */
  readonly path: string
}

/** @param table of /proc/PID/net/unix */
export function boundUnixSockets(table: string): BoundUnixSocket[] {
  return table.split('\n').flatMap((line) => {
    const [, type, state, inode, path] = /^\S+: \S+ \S+ \S+ (\S+) (\S+) +(\d+) ([^@].*)$/.exec(line) ?? []
    return type === undefined || state === undefined || inode === undefined || path === undefined ? [] : [{ inode, type, state, path }]
  })
}
