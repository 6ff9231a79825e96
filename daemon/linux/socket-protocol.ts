import koffi from 'koffi'

type Getxattr = (path: string, name: string, value: Buffer, size: number) => number
let getxattr: Getxattr | undefined

const nameBytes = 64

/**
 * The kernel's name of a socket's protocol, such as `TCP`, `UNIX-STREAM` or `MPTCP`, as lsof reads it. No socket table has those
 * that are not bound. Nothing is opened; empty where the socket is gone or has no name.
 * @param path of the descriptor in a proc file system
 */
export function socketProtocol(path: string): string {
  getxattr ??= koffi.load('libc.so.6').func('intptr_t getxattr(const char *, const char *, _Out_ uint8_t *, size_t)') as unknown as Getxattr
  const value = Buffer.alloc(nameBytes)
  const length = getxattr(path, 'system.sockprotoname', value, nameBytes)
  // @NOTE The length may lack or include the terminating zero, by the kernel's version.
  return length <= 0 ? '' : value.toString('latin1', 0, length).replaceAll('\0', '')
}
