import type { MpiLauncher } from './launcher.ts'

/**
 * MPICH and its relatives (Hydra 4). Under Slurm its launcher is srun, whose connections to slurmstepd cannot be restored and
 * which hangs in a private network. Hosts and tasks per host it still takes from Slurm's variables (RMK slurm), which hold the
 * names of the first allocation, as the sandbox's /etc/hosts does.
 */
export const mpich: MpiLauncher = {
  name: 'mpich',
  environment: ({ several, agent }) => (several ? { HYDRA_LAUNCHER: 'ssh', HYDRA_LAUNCHER_EXEC: agent, HYDRA_RMK: 'slurm' } : { HYDRA_LAUNCHER: 'fork', HYDRA_RMK: 'user' }),
}
