import { cgroupPlaces, isFrozen, removePayloadCgroup, removeStepRemains } from './cgroups.ts'
import { HeldProcess } from './held-process.ts'
import { memoryInUse, memoryLimit, nodeSwapBytes } from './memory-limit.ts'
import { enginesIn, killPayload, payloadGroups, rootAlive } from './payload.ts'
import { isAlive, processStat } from './processes.ts'

/** What the protocol of coordinator and members asks of the kernel, and has it do. A simulation has a kernel of its own (tests/protocol). */
export interface Kernel {
  readonly hold: typeof HeldProcess.open
  readonly isAlive: typeof isAlive
  readonly processStat: typeof processStat
  readonly rootAlive: typeof rootAlive
  readonly payloadGroups: typeof payloadGroups
  readonly enginesIn: typeof enginesIn
  readonly killPayload: typeof killPayload
  readonly cgroupPlaces: typeof cgroupPlaces
  readonly isFrozen: typeof isFrozen
  readonly memoryInUse: typeof memoryInUse
  readonly memoryLimit: typeof memoryLimit
  readonly nodeSwapBytes: typeof nodeSwapBytes
  readonly removePayloadCgroup: typeof removePayloadCgroup
  readonly removeStepRemains: typeof removeStepRemains
}

export const linux: Kernel = {
  hold: (pid, startTime) => HeldProcess.open(pid, startTime),
  isAlive, processStat, rootAlive, payloadGroups, enginesIn, killPayload, cgroupPlaces, isFrozen, memoryInUse, memoryLimit, nodeSwapBytes, removePayloadCgroup, removeStepRemains,
}
