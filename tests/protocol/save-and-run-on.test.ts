import { testCheckpoints } from './checkpoints.ts'

testCheckpoints(true)
