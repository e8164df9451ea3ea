/**
 * A message port as the connection that QMP runs over: what is sent goes as JSON text, a line a message; text, bytes and
 * objects (which become their JSON) are taken. `null` says that the other end is closed.
 */
import type { HostConnection } from "../../base/host.ts";
import { Wakeup } from "../../base/signals.ts";
import { checkArgument } from "../options.ts";
import { type PortLike, dataOf } from "./port.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function bytesOf(message: unknown): Uint8Array {
  if (message instanceof Uint8Array) return message;
  return encoder.encode(typeof message === "string" ? message : `${JSON.stringify(message)}\n`);
}

/** The connection over `port`, for QmpClient.connect() or serveMonitor(). It ends when either end closes. */
export function portConnection(port: PortLike): HostConnection {
  checkArgument("port", port, "Port");
  const waiting: Uint8Array[] = [];
  const changed = new Wakeup();
  let isClosed = false;
  const end = (): void => {
    isClosed = true;
    port.removeEventListener("message", take);
    port.removeEventListener("close", end);
    changed.wake();
  };
  const take = (event: Event): void => {
    const message = dataOf(event);
    if (message === null) return end();
    waiting.push(bytesOf(message));
    changed.wake();
  };
  async function* incoming(): AsyncGenerator<Uint8Array> {
    for (;;) {
      await changed.until(() => waiting.length > 0 || isClosed);
      const next = waiting.shift();
      if (!next) return;
      yield next;
    }
  }
  port.addEventListener("message", take);
  port.addEventListener("close", end);
  port.start?.();
  return {
    incoming: incoming(),
    write(bytes) {
      if (isClosed) return Promise.reject(new Error("the port is closed"));
      port.postMessage(decoder.decode(bytes), []);
      return Promise.resolve();
    },
    close() {
      if (!isClosed) {
        port.postMessage(null, []);
        end();
      }
      port.close?.();
      return Promise.resolve();
    },
  };
}
