/** What a sandbox offers to MPI launchers. */
export interface SandboxFacts {
  /** The run has members on other nodes, reached by the agent in place of ssh. */
  readonly several: boolean
  /** Path of stint-agent. */
  readonly agent: string
}

/** What one family of MPI launchers needs in a sandbox's environment; set unless the user has set it. */
export interface MpiLauncher {
  readonly name: string
  environment(facts: SandboxFacts): Readonly<Record<string, string>>
}
