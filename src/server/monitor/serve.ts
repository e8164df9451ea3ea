/**
 * Joins a session to a connection: reads while the session has room, closes when either side ends.
 */
import type { HostConnection } from "../../base/host.ts";
import { onAbort } from "../../base/signals.ts";
import { QmpSession, type QmpSessionOptions } from "./session.ts";

/**
 * Serves one client until it, or the session, closes; commands that are already read are answered first.
 * Never rejects: how a client goes away is nobody's error. `signal` closes the connection.
 */
export async function serveMonitor<E>(
  connection: HostConnection,
  options: Omit<QmpSessionOptions<E>, "write"> & { readonly signal?: AbortSignal },
): Promise<void> {
  const { signal, ...sessionOptions } = options;
  const closeConnection = (): void => void connection.close().catch(() => undefined);
  const session = new QmpSession<E>({
    ...sessionOptions,
    write: (bytes) => connection.write(bytes),
    onClose: (reason) => {
      options.onClose?.(reason);
      closeConnection();
    },
  });
  const abort = (): void => session.close("shut down");
  const forget = onAbort(signal, abort);
  if (signal?.aborted) abort();
  try {
    for await (const bytes of connection.incoming) {
      await session.feed(bytes);
      if (session.state === "closed") break;
    }
    await session.idle();
  } catch {
    // The connection broke: the same as its end.
  } finally {
    forget();
    session.close("the client has gone");
    closeConnection();
  }
}
