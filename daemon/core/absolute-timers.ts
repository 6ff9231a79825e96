import type { Obstacle } from './obstacles.ts'

/** Whether a process has timers of CLOCK_REALTIME. @param text of /proc/PID/timers, which does not tell their mode */
export function hasRealtimeTimers(text: string): boolean {
  return /^ClockID: 0$/m.test(text)
}

/**
 * Whether any POSIX timer of this kernel runs to a time of day. @param text of /proc/timer_list. The kernel queues relative timers of
 * CLOCK_REALTIME by the monotonic clock (common_hrtimer_arm() in kernel/time/posix-timers.c), so what is among the clocks 1 and 5
 * (real time, and the same in softirq) is absolute
 */
export function anyAbsoluteTimer(text: string): boolean {
  let clock = -1
  for (const line of text.split('\n')) {
    const found = /^ clock (\d+):/.exec(line)
    if (found !== null) clock = Number(found[1])
    else if ((clock === 1 || clock === 5) && line.includes(', posix_timer_fn,')) return true
  }
  return false
}

/** The timer would be late by as long as the job is away. */
export function absoluteTimerObstacle({ pid, comm }: { readonly pid: number; readonly comm: string }): Obstacle {
  return {
    kind: 'absolute-timer', message: `${comm} (PID ${pid} in the sandbox) has a timer set to a time of day (timer_settime with TIMER_ABSTIME), which would be late after a move`,
    remedy: 'Use timerfd_create(CLOCK_REALTIME) with TFD_TIMER_ABSTIME, which is put back, or a relative timer.',
  }
}
