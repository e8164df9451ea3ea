/**
 * The saved machine that some formats keep beside the disk: reading and writing its bytes.
 * Source: behaviour of QEMU 7.2 (bdrv_load_vmstate, bdrv_save_vmstate).
 */
import { BlockError, blockError } from "../../base/errors.ts";
import type { VmStateStore } from "../model/contract.ts";
import type { BlockNode } from "../model/node.ts";
import { inFlight } from "../model/in-flight.ts";
import { checkOpen } from "./request-path.ts";

/** The store of the node, or of the one that a filter shows. Throws ENOTSUP. */
function storeOf(node: BlockNode, op: string): VmStateStore {
  checkOpen(node, op);
  const store = node.driver.vmState?.();
  if (store) return store;
  if (node.isFilter && node.filtered) return storeOf(node.filtered.node, op);
  throw blockError("ENOTSUP", op);
}

/** Fills `buffer` from `at`, bytes from the start of the saved machine. Errors: ENOTSUP, those of the driver. */
export function readVmState(node: BlockNode, at: number, buffer: Uint8Array): Promise<void> {
  return inFlight(node, async () => storeOf(node, "pread").read(at, buffer));
}

/** Writes `buffer` at `at`. Errors: EACCES for a read-only node, ENOTSUP, those of the driver. */
export function writeVmState(node: BlockNode, at: number, buffer: Uint8Array): Promise<void> {
  return inFlight(node, async () => {
    const store = storeOf(node, "pwrite");
    if (node.readOnly) throw new BlockError({ code: "EACCES", op: "pwrite", node: node.name, offset: at });
    await store.write(at, buffer);
  });
}
