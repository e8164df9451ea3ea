/**
 * A disk of openGuestDisk() across a port, beside its data: the status as it changes, the filling, the end.
 */
import { onAbort } from "../../base/signals.ts";
import type { OpenedGuestDisk } from "../guest-disk/disk.ts";
import type { GuestDiskStatus } from "../guest-disk/status.ts";
import type { GuestControlCalls } from "./calls.ts";
import { Feed } from "./feed.ts";
import { type PortLike, PortServer } from "./port.ts";

/** Serves it until the other end closes or `signal` aborts, then closes the disk. Rejects with a failed flush that the other end was not told of. */
export async function serveGuestControl(
  opened: OpenedGuestDisk,
  port: PortLike,
  signal: AbortSignal,
): Promise<void> {
  let isAsked = false;
  const statuses = new Feed<GuestDiskStatus>();
  statuses.push(opened.status);
  const unwatch = opened.watch((status) => statuses.push(status));
  const server = new PortServer<GuestControlCalls>(port, {
    status: ({ seen }, context) => statuses.after(seen, context.signal),
    pauseFill: async () => opened.pauseFill(),
    resumeFill: async () => opened.resumeFill(),
    close: () => {
      isAsked = true;
      return opened.close();
    },
    remove: () => {
      isAsked = true;
      return opened.remove();
    },
  });
  const forget = onAbort(signal, server.end);
  if (signal.aborted) server.end();
  await server.ended;
  forget();
  unwatch();
  await opened.close().catch((error: unknown) => {
    if (!isAsked) throw error;
  });
}
