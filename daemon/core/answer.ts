import { StintError, isErrorCode } from './errors.ts'

/** What a daemon answered to a refused request, as the error it was there. */
function errorOf(who: string, status: number, text: string): StintError {
  try {
    const body = JSON.parse(text) as { code?: unknown; message?: unknown; hint?: unknown }
    if (isErrorCode(body.code)) return new StintError(body.code, String(body.message), { hint: String(body.hint) })
  } catch {
    // Not JSON: reported as it stands below.
  }
  return new StintError('E_INTERNAL', `${who} answered ${status}: ${text.slice(0, 200)}`)
}

/**
 * The value in an answer of a daemon's API.
 * @param who answered, in the words of the error when it is no answer of ours
 * @throws StintError with the daemon's own code, or E_INTERNAL when it does not speak our language
 */
export function readAnswer(who: string, status: number, text: string): unknown {
  if (status < 200 || status >= 300) throw errorOf(who, status, text)
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new StintError('E_INTERNAL', `${who} answered no JSON: ${text.slice(0, 200)}`, { cause })
  }
}
