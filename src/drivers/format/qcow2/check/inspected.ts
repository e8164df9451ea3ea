/** What the parts of a check share: the image, and the count of references that goes on over it. */
import type { Edge, ImageCheck } from "../../../../block/model/contract.ts";
import type { Header } from "../disk/header.ts";
import type { MetadataMap } from "../metadata/overlap.ts";

/** Where the last things may lie that QEMU reads. */
export const LAST_OFFSET = 2 ** 63 - 2 ** 30;

/** The image as a check sees it. */
export interface Inspected {
  readonly file: Edge;
  readonly header: Header;
  readonly result: ImageCheck;
  /** Problems in words. */
  readonly say: (text: string) => void;
  readonly fix: { readonly leaks: boolean; readonly errors: boolean };
  readonly signal: AbortSignal | undefined;
  /** The table of internal snapshots, which was read before. */
  readonly snapshots: { count(walk: Walk): Promise<void> };
  /** Where metadata lies that a repair in place must not overwrite. */
  readonly metadata: MetadataMap;
}

/** A pass over the image that counts references (walk.ts). */
export interface Walk {
  readonly image: Inspected;
  readonly clusterSize: number;
  /** References per cluster; may be longer than `clusters`. */
  readonly counts: Uint32Array;
  /** Clusters that count: those of the file, and one that a reference at its end begins. */
  readonly clusters: number;
  /** The refcount structures can't be mended in place. */
  rebuild: boolean;
  /** One more problem that can destroy data. */
  corruption(words: string): void;
  /** Takes from the budget of bytes that may be read. Throws EFBIG when it is used up. */
  spend(bytes: number): void;
  /** One more reference for each cluster of the range; false: it leaves the file, which is an error of the image. */
  add(offset: number, bytes: number, words?: string): boolean;
  /** Counts `clusters` clusters from now on. */
  grow(clusters: number): void;
  /** Counts an L1 table and all below it. */
  l1(offset: number, size: number, active: boolean): Promise<void>;
}
