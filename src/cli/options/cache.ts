/**
 * Modes of caching as qemu-img's -t and -T name them.
 */
import { Refusal } from "../refusal.ts";

/** Caching, as BlockdevOptions has it. */
export interface CacheMode {
  direct: boolean;
  "no-flush": boolean;
}

const cacheModes: Readonly<Record<string, CacheMode>> = {
  none: { direct: true, "no-flush": false },
  off: { direct: true, "no-flush": false },
  directsync: { direct: true, "no-flush": false },
  writeback: { direct: false, "no-flush": false },
  writethrough: { direct: false, "no-flush": false },
  unsafe: { direct: false, "no-flush": true },
};

/** The meaning of `-t` or `-T`; `what` names the option in the refusal. */
export function cacheMode(text: string, what: string): CacheMode {
  const mode = Object.hasOwn(cacheModes, text) ? cacheModes[text] : undefined;
  if (!mode) throw new Refusal(`Invalid ${what} option: ${text}`);
  return mode;
}
