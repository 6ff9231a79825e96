/** What scontrol says, or the runner of programs says of it, when slurmctld is down, starting, standing by or overloaded. */
const words = /Unable to contact|took too long|timed out|Connection refused|in standby mode/i

/** Whether a failed call of scontrol means that slurmctld did not answer, rather than that it refused. */
export function isSlurmctldAbsent(message: string): boolean {
  return words.test(message)
}
