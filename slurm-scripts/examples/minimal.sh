#!/bin/bash
#SBATCH --job-name=minimal
#SBATCH --stint
#SBATCH --time=60
#SBATCH --output=minimal-%j.log
#SBATCH --open-mode=append
# The one line is --stint: before its hour is over the job is saved, requeued under the same id and continued where it stood,
# as often as it takes. Without --open-mode=append (or JobFileAppend=1 in slurm.conf) a requeue truncates the log; Stint then
# puts it back from the image.
set -euo pipefail

for step in $(seq 1 100000); do
  echo "step $step at $(date -Is)"
  sleep 10
done
