/**
 * Joins a session to a connection: reads while the session has room, closes when either side ends.
 */
import type { HostConnection } from "../../base/host.ts";
import { onAbort } from "../../base/signals.ts";
import { QmpSession, type QmpSessionOptions } from "./session.ts";

/** How long a client may take what was said to it before the service ended, ms. */
const FAREWELL_MS = 1000;

/**
 * Serves one client until it, or the session, closes; commands that are already read are answered first.
 * Never rejects: how a client goes away is nobody's error. `signal` closes the connection once the client has taken what was
 * said before, or has not within a second.
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
  const abort = (): void => {
    const cancel = options.clock.timer(FAREWELL_MS, () => session.close("shut down"));
    void session.flushed().finally(() => {
      cancel();
      session.close("shut down");
    });
  };
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
