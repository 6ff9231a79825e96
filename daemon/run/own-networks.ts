import type { NodeNetworks } from '../core/member.ts'
import type { Context } from '../context.ts'

/** Addresses and VNIs of the sandboxes on this node. */
export function ownNetworks(context: Context): NodeNetworks {
  const sandboxes = [...context.sandboxes.values()]
  return { vnis: sandboxes.flatMap((s) => s.network?.vni ?? []), addresses: sandboxes.map((s) => s.run.address) }
}
