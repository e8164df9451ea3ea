// Seeds beyond the fixed ones whose stories once went wrong, and why. They are told in every run.

/** Seeds that found bugs. */
export const regressions: readonly number[] = [
  // A background copy slipped in between a write-blocking guest write's wait for a range and its taking.
  1240,
  // A qcow2 read failed while its request still looked up the next extent: nobody handled it.
  839, 566,
];
