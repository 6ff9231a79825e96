#!/bin/sh
# Epilog of slurmd: Epilog=/etc/slurm/epilog.d/stint in slurm.conf. Tells stintd that no process of the job is left on this
# node, so that it removes what the job's sandbox had here in case its own end was not seen.
# No answer is waited for and nothing of Slurm is called; whatever happens the exit code is 0: another one drains the node.
helper=/usr/libexec/stint/stint-init
socket=/run/stint/sandbox.sock
# Slurm names the options of SPANK plugins to its hooks: a job without --stint costs nothing here.
if [ -n "${SPANK__SLURM_SPANK_OPTION_stint_stint+set}" ] && [ -x "$helper" ]; then
  "$helper" hook epilog "$socket" "${SLURM_JOB_ID:-}" </dev/null >/dev/null 2>&1
fi
exit 0
