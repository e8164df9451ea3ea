/** The header of an encrypted volume in a child node, for src/crypto. */
import type { HeaderStorage } from "../../crypto/luks-keys.ts";
import type { Edge } from "../model/contract.ts";

/** The bytes of `child` from `start` on. */
export function headerStorage(child: Edge, start = 0): HeaderStorage {
  return {
    read: async (offset, buffer) => child.pread(start + offset, buffer),
    write: async (offset, data) => child.pwrite(start + offset, data),
    flush: async () => child.flush(),
  };
}
