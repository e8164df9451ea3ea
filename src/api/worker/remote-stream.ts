/**
 * An image of a disk in a worker as a stream on this side: each piece is asked for when the stream's reader wants it.
 */
import { abortable } from "../../base/signals.ts";
import type { ImageStreamOptions } from "../image-stream.ts";
import type { DiskCalls } from "./calls.ts";
import type { PortCaller } from "./port.ts";

/** Starts the stream; see imageStream(). */
export async function remoteStream(
  caller: PortCaller<DiskCalls>,
  { signal, onProgress, ...options }: ImageStreamOptions,
): Promise<ReadableStream<Uint8Array>> {
  signal?.throwIfAborted();
  const id = await caller.call("streamStart", { options });
  const end = (): Promise<void> => caller.call("streamEnd", { id });
  return new ReadableStream<Uint8Array>({
    async pull(controller): Promise<void> {
      try {
        const { data, done, total } = await abortable(caller.call("streamNext", { id }), signal);
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
