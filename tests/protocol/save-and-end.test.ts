import { testCheckpoints } from './checkpoints.ts'

testCheckpoints(false)
