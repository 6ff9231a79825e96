#!/bin/sh
# Prolog of slurmd: Prolog=/etc/slurm/prolog.d/stint in slurm.conf. Tells stintd which job comes, so that it compares the
# checksums of the job's image, and so reads it into memory, while slurmd is still starting the job.
# No answer is waited for and nothing of Slurm is called; whatever happens the exit code is 0: another one drains the node.
helper=/usr/libexec/stint/stint-init
socket=/run/stint/sandbox.sock
# Slurm names the options of SPANK plugins to its hooks: a job without --stint costs nothing here.
if [ -n "${SPANK__SLURM_SPANK_OPTION_stint_stint+set}" ] && [ -x "$helper" ]; then
  "$helper" hook prolog "$socket" "${SLURM_JOB_ID:-}" </dev/null >/dev/null 2>&1
fi
exit 0
