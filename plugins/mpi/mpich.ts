import type { MpiLauncher } from './launcher.ts'

/**
 * MPICH and its relatives (Hydra 4). Under Slurm its launcher is srun, whose connections to slurmstepd cannot be restored and
 * which hangs in a private network. Hosts and tasks per host it still takes from Slurm's variables (RMK slurm), also on one node,
 * where `mpirun` without -n starts --ntasks ranks; they hold the names of the first allocation, as the sandbox's /etc/hosts does.
 */
export const mpich: MpiLauncher = {
  name: 'mpich',
  environment: ({ several, agent }) => ({ HYDRA_RMK: 'slurm', ...(several ? { HYDRA_LAUNCHER: 'ssh', HYDRA_LAUNCHER_EXEC: agent } : { HYDRA_LAUNCHER: 'fork' }) }),
}
