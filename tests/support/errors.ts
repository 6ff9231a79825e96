import type { ErrorCode, StintError } from '../../daemon/core/errors.ts'

/** The coded error a call throws or rejects with. @throws Error when it does neither */
export async function refusal(work: () => unknown): Promise<StintError> {
  try {
    await work()
  } catch (error) {
    return error as StintError
  }
  throw new Error('nothing was thrown')
}

/** `CODE: message` of what a call throws. */
export async function said(work: () => unknown): Promise<string> {
  const { code, message } = await refusal(work)
  return `${code satisfies ErrorCode}: ${message}`
}
