/**
 * Standard input and output as a connection, for a monitor at a terminal or under another program. Invariants: whoever reads
 * our output may go away, or not read, at any time: then this connection ends, or waits, and nothing else does. Node's own
 * process.stdout would end the process with an unhandled EPIPE, and it waits for a full pipe with the whole process.
 */
import * as fs from "node:fs";
import type { HostConnection } from "../../base/host.ts";

const STDOUT = 1;

/** Pipes and sockets are written without waiting for them; files and terminals as Node does. */
function output(): NodeJS.WritableStream {
  const stats = fs.fstatSync(STDOUT);
  if (!stats.isFIFO() && !stats.isSocket()) return process.stdout;
  const { Socket } = process.getBuiltinModule("node:net");
  return new Socket({ fd: STDOUT, readable: false, writable: true });
}

/** The connection; closing it stops reading. */
export function stdioConnection(): HostConnection {
  const stream = output();
  // A failed write rejects where it was asked for; the event of it is nobody's.
  stream.on("error", () => undefined);
  process.stdin.on("error", () => undefined);
  return {
    incoming: process.stdin as AsyncIterable<Uint8Array>,
    write: (bytes) =>
      new Promise((resolve, reject) => {
        stream.write(bytes, (error) => (error ? reject(error) : resolve()));
      }),
    close: () => {
      process.stdin.destroy();
      return Promise.resolve();
    },
  };
}
