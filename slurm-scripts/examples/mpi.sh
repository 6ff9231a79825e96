#!/bin/bash
#SBATCH --job-name=mpi
#SBATCH --stint
#SBATCH --time=60
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --output=mpi-%j.log
#SBATCH --open-mode=append
# An MPI program over several nodes, saved and continued as one. Plain mpirun: it finds the allocation's hosts by itself, and
# reaches them through Stint instead of srun, whose connections to Slurm could not be restored on other nodes.
set -euo pipefail

mpirun "${MPI_PROGRAM:-./app}"
