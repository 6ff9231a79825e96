#!/bin/bash
#SBATCH --job-name=signal
#SBATCH --stint
#SBATCH --time=60
#SBATCH --signal=B:USR1@120
#SBATCH --output=signal-%j.log
#SBATCH --open-mode=append
# SIGUSR1 to the batch task is the doorbell: Stint saves the job at once and requeues it. Here Slurm rings it two minutes before
# the hour is over, earlier than Stint would by itself. By hand, from any node: scancel --batch --signal=USR1 JOB.
# The script never sees the signal. If it wants USR1 for itself: #SBATCH --stint=signal=pass.
set -euo pipefail

for step in $(seq 1 100000); do
  echo "step $step at $(date -Is)"
  sleep 10
done
