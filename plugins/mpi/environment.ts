/**
 * What MPI launchers need in a sandbox, set unless the user set it. Under Slurm MPICH's launcher is srun, whose
 * connections to slurmstepd cannot be restored and which hangs in a private network.
 */
export const mpichEnvironment: Readonly<Record<string, string>> = { HYDRA_LAUNCHER: 'fork', HYDRA_RMK: 'user' }

/** Open MPI 5 (PRRTE) on one node needs nothing but to stay away from Slurm's launcher. */
export const openMpiEnvironment: Readonly<Record<string, string>> = { PRTE_MCA_plm: 'ssh', OMPI_MCA_plm: 'isolated' }
