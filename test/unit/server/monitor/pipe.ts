/** Two ends of a connection in memory, for the monitor's tests. */
import type { HostConnection } from "../../../../src/base/host.ts";
import { Wakeup } from "../../../../src/base/signals.ts";

class Pipe {
  readonly chunks: Uint8Array[] = [];
  readonly changed = new Wakeup();
  isClosed = false;

  async *read(): AsyncGenerator<Uint8Array> {
    for (;;) {
      await this.changed.until(() => this.chunks.length > 0 || this.isClosed);
      const chunk = this.chunks.shift();
      if (!chunk) return;
      yield chunk;
    }
  }
}

function end(from: Pipe, to: Pipe): HostConnection {
  return {
    incoming: from.read(),
    write: (bytes) => {
      if (to.isClosed) return Promise.reject(new Error("broken pipe"));
      to.chunks.push(bytes);
      to.changed.wake();
      return Promise.resolve();
    },
    close: () => {
      for (const pipe of [from, to]) {
        pipe.isClosed = true;
        pipe.changed.wake();
      }
      return Promise.resolve();
    },
  };
}

/** A pair of connected ends. Closing one closes both. */
export function connectionPair(): [HostConnection, HostConnection] {
  const there = new Pipe();
  const back = new Pipe();
  return [end(there, back), end(back, there)];
}
