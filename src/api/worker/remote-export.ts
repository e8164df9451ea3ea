/**
 * An export of a disk in a worker as a stream on this side: each piece is asked for when the stream's reader wants it.
 */
import { abortable } from "../../base/signals.ts";
import type { ExportOptions } from "../export.ts";
import type { DiskCalls } from "./calls.ts";
import type { PortCaller } from "./port.ts";

/** Starts the export; see exportDisk(). */
export async function remoteExport(
  caller: PortCaller<DiskCalls>,
  { signal, onProgress, ...options }: ExportOptions,
): Promise<ReadableStream<Uint8Array>> {
  signal?.throwIfAborted();
  const id = await caller.call("exportStart", { options });
  const end = (): Promise<void> => caller.call("exportEnd", { id });
  return new ReadableStream<Uint8Array>({
    async pull(controller): Promise<void> {
      try {
        const { data, done, total } = await abortable(caller.call("exportNext", { id }), signal);
        onProgress?.(done, total);
        if (data) controller.enqueue(data);
        else controller.close();
      } catch (error) {
        await end().catch(() => undefined);
        throw error;
      }
    },
    cancel: end,
  });
}
