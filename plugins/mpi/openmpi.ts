import type { MpiLauncher } from './launcher.ts'

/**
 * Open MPI 5 (PRRTE) and 4 (ORTE): away from Slurm's launcher, to ssh or what stands for it; no daemon starts others (tree
 * spawn), so that every command comes from member 0. The allocation they read from Slurm's variables.
 */
export const openmpi: MpiLauncher = {
  name: 'openmpi',
  environment: ({ several, agent }) => (several
    ? {
        PRTE_MCA_plm: 'ssh', PRTE_MCA_plm_ssh_agent: agent, PRTE_MCA_plm_ssh_no_tree_spawn: '1',
        OMPI_MCA_plm: 'rsh', OMPI_MCA_plm_rsh_agent: agent, OMPI_MCA_plm_rsh_no_tree_spawn: '1',
      }
    : { PRTE_MCA_plm: 'ssh', OMPI_MCA_plm: 'isolated' }),
}
