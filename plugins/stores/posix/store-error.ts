import { StintError, asStintError, systemCode } from '../../../daemon/core/errors.ts'

/** ENOSPC and its like as E_STORE_FULL, everything else as E_STORE_UNUSABLE. */
export function storeError(cause: unknown): StintError {
  const code = systemCode(cause)
  const message = asStintError(cause).message
  return code === 'ENOSPC' || code === 'EDQUOT'
    ? new StintError('E_STORE_FULL', `the image store is full: ${message}`, { cause })
    : new StintError('E_STORE_UNUSABLE', `the image store cannot be used: ${message}`, { cause })
}
