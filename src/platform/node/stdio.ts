/** Standard input and output as a connection, for a monitor at a terminal or under another program. */
import type { HostConnection } from "../../base/host.ts";

/** The connection; closing it stops reading. */
export function stdioConnection(): HostConnection {
  return {
    incoming: process.stdin as AsyncIterable<Uint8Array>,
    write: (bytes) =>
      new Promise((resolve, reject) => {
        process.stdout.write(bytes, (error) => (error ? reject(error) : resolve()));
      }),
    close: () => {
      process.stdin.destroy();
      return Promise.resolve();
    },
  };
}
