/** Fields of `scontrol show job` that are options of sbatch; a value of Slurm's for "none" is no option. */
const optionOf: Readonly<Record<string, string>> = {
  JobName: '--job-name', Partition: '--partition', Account: '--account', QOS: '--qos', TimeLimit: '--time', NumNodes: '--nodes', NumTasks: '--ntasks', 'CPUs/Task': '--cpus-per-task',
  MinMemoryNode: '--mem', MinMemoryCPU: '--mem-per-cpu', Features: '--constraint', Reservation: '--reservation', TresPerNode: '--gres', ReqNodeList: '--nodelist', ExcNodeList: '--exclude', WorkDir: '--chdir',
}
const none: ReadonlySet<string> = new Set(['', '(null)', 'N/A', 'UNLIMITED', 'Partition_Limit', '0'])

/**
 * Options that make sbatch submit a job like this one, as far as Slurm tells; `#SBATCH` lines of its script say the rest.
 * @param text of `scontrol show job ID`: a field of the user's own, like the working directory, ends with its line
 */
export function optionsLike(text: string): string[] {
  const options = Object.entries(optionOf).flatMap(([field, option]) => {
    // The last of a line may hold blanks: JobName, WorkDir.
    const value = (['JobName', 'WorkDir'].includes(field) ? new RegExp(`\\b${field}=(.*)$`, 'm') : new RegExp(`(?:^|\\s)${field}=(\\S*)`)).exec(text)?.[1]?.trim() ?? ''
    return none.has(value) ? [] : [`${option}=${value}`]
  })
  const output = (field: string, option: string): string[] => {
    const path = new RegExp(`^[ \\t]*${field}=(/.*)$`, 'm').exec(text)?.[1]
    return path === undefined ? [] : [`${option}=${path.replaceAll('%', '%%')}`]
  }
  return [...options, ...output('StdOut', '--output'), ...output('StdErr', '--error'), '--open-mode=append']
}
