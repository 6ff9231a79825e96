#!/bin/bash
#SBATCH --job-name=hpl
#SBATCH --stint
#SBATCH --time=1
#SBATCH --ntasks=2
#SBATCH --nodes=1
#SBATCH --output=hpl-%j.log
#SBATCH --open-mode=append
# High Performance Linpack out of the HPC Challenge suite (Debian: hpcc), one rank per task on one node. It solves HPL_COUNT
# systems of order HPL_N, needs 8 * HPL_N^2 bytes, and checks its own results: hpccoutf.txt must say PASSED, never FAILED.
# Ranks are started by mpirun: connections of srun to Slurm could not be restored on another node.
set -euo pipefail
n=${HPL_N:-6000} count=${HPL_COUNT:-8} ranks=${SLURM_NTASKS:-2}

mkdir -p "hpl-$SLURM_JOB_ID"
cd "hpl-$SLURM_JOB_ID"
cat >hpccinf.txt <<END
HPLinpack benchmark input file
Innovative Computing Laboratory, University of Tennessee
HPL.out      output file name (if any)
8            device out (6=stdout,7=stderr,file)
$count       # of problems sizes (N)
$(printf "$n %.0s" $(seq "$count")) Ns
1            # of NBs
128          NBs
0            PMAP process mapping (0=Row-,1=Column-major)
1            # of process grids (P x Q)
1            Ps
$ranks       Qs
16.0         threshold
1            # of panel fact
2            PFACTs (0=left, 1=Crout, 2=Right)
1            # of recursive stopping criterium
4            NBMINs (>= 1)
1            # of panels in recursion
2            NDIVs
1            # of recursive panel fact.
1            RFACTs (0=left, 1=Crout, 2=Right)
1            # of broadcast
1            BCASTs (0=1rg,1=1rM,2=2rg,3=2rM,4=Lng,5=LnM)
1            # of lookahead depth
1            DEPTHs (>=0)
2            SWAP (0=bin-exch,1=long,2=mix)
64           swapping threshold
0            L1 in (0=transposed,1=no-transposed) form
0            U  in (0=transposed,1=no-transposed) form
1            Equilibration (0=no,1=yes)
8            memory alignment in double (> 0)
##### what follows is for PTRANS, which takes what it does not find from memory that nobody has set #####
0            additional problem sizes for PTRANS
1200         values of N
0            additional blocking sizes for PTRANS
64           values of NB
END
export OMP_NUM_THREADS=1
mpirun -n "$ranks" hpcc
