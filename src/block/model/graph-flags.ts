/**
 * What all nodes of a graph are for, where that changes what they do; to be said before the first node is opened.
 */
export interface GraphFlags {
  /** The nodes are a system emulator's: what QEMU gives no guest any more is refused; bitmaps are to the bit, and flushes reach what they reach, as QEMU's. */
  readonly isForGuests?: boolean;
  /** Images are left as QEMU leaves them: no journal of dirty bitmaps, unless a node asks for it. */
  readonly isLikeQemu?: boolean;
  /** Told of two copies of a disk that differ (blkverify, quorum), before the request fails: QEMU's programs end then. */
  readonly onDifference?: ((words: string) => void) | undefined;
}
