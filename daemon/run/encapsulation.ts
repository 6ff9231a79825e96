import { setTimeout } from 'node:timers/promises'
import type { Context } from '../context.ts'
import type { Encapsulation } from '../core/addresses.ts'
import { asStintError } from '../core/errors.ts'
import type { SegmentQuestion, SegmentAnswer } from '../core/member.ts'

/** For test packets to arrive, seconds. */
const probeSeconds = 1
/** For the answer of another node: its own test is in it. */
const answerSeconds = 4
/** A task waits for the choice, and its plugin for five seconds. A test that takes longer goes on for the next job. */
const chooseSeconds = 2
/** Ports of test packets, drawn at random, so that each test is known by its own. */
const ports = { first: 20_000, count: 40_000 }

/** The answer to a run's coordinator, from one of its nodes: this node has sent a test packet to the coordinator's, and looked for one from there. */
export async function answerSegment({ segment }: Context, { addresses, member, port }: SegmentQuestion): Promise<SegmentAnswer> {
  const device = await segment.device(addresses.filter((_, at) => at !== member))
  if (device === undefined) return { isOneSegment: false, isHeard: false }
  const isHeard = await segment.probe(device, [{ address: addresses[0] ?? '', port: port + member }], () => segment.heard([port], probeSeconds))
  return { isOneSegment: true, isHeard }
}

/** Test packets go from this node to each other one and back. @returns what fails; undefined when all arrive */
async function examine(context: Context, nodes: readonly string[], addresses: readonly string[]): Promise<string | undefined> {
  const { segment, cluster } = context
  const apart = (node: string): string => `the other nodes are not on one segment with ${node}`
  const others = nodes.slice(1)
  const device = await segment.device(addresses.slice(1))
  if (device === undefined) return apart(context.node)
  const port = ports.first + Math.floor(Math.random() * ports.count)
  return segment.probe(device, addresses.slice(1).map((address) => ({ address, port })), async () => {
    const answers = await Promise.all(others.map((node, at) => cluster.segment(node, { addresses: [...addresses], member: at + 1, port }, answerSeconds)))
    const elsewhere = answers.findIndex(({ isOneSegment }) => !isOneSegment)
    if (elsewhere !== -1) return apart(others[elsewhere] ?? '')
    const deaf = answers.findIndex(({ isHeard }) => !isHeard)
    if (deaf !== -1) return `packets with addresses of jobs do not arrive at ${others[deaf] ?? ''}`
    return await segment.heard(others.map((_, at) => port + at + 1), probeSeconds) ? undefined : `packets with addresses of jobs do not arrive at ${context.node}`
  })
}

/** Why packets between these nodes need VXLAN; undefined where they do without. @param nodes this one first */
export async function whyEncapsulated(context: Context, nodes: readonly string[]): Promise<string | undefined> {
  try {
    const addresses = await Promise.all(nodes.map((node) => context.cluster.addressOf(node)))
    return await context.segment.remembered(addresses, () => examine(context, nodes, addresses))
  } catch (cause) {
    return asStintError(cause).message // Not remembered: it may be otherwise in a moment.
  }
}

/** How packets of a run travel between its nodes in this stint. @param nodes this one first */
export async function encapsulationFor(context: Context, nodes: readonly string[]): Promise<Encapsulation> {
  const { encapsulation } = context.config.network
  if (encapsulation === 'vxlan' || encapsulation === 'none') return encapsulation
  const late = setTimeout(chooseSeconds * 1000, `the test between them took longer than ${chooseSeconds} s`, { ref: false })
  const why = await Promise.race([whyEncapsulated(context, nodes), late])
  if (why !== undefined) context.log.info({ nodes }, `VXLAN between nodes: ${why}`)
  return why === undefined ? 'none' : 'vxlan'
}
