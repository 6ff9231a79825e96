import type { MpiLauncher } from './launcher.ts'

/**
 * UCX below MPICH or Open MPI. It lets the kernel end a TCP connection that was silent for 10 s and does not answer three probes
 * 2 s apart (uct_tcp_keepalive_config_t in UCX 1.18): a gate that is shut for the dump of a large job would cost the job its
 * connections. Whether another member is there is Slurm's business here.
 */
export const ucx: MpiLauncher = {
  name: 'ucx',
  environment: ({ several }) => (several ? { UCX_TCP_KEEPIDLE: 'inf' } : {}),
}
