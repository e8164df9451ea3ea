/**
 * How a page asks the script of a worker for an engine: one message that carries the port and the name of
 * a lock, which the worker holds as long as it serves.
 */

/** The message. */
export interface ConnectMessage {
  blockwright: "connect";
  port: MessagePort;
  lock: string;
  /** Of the engine that the worker makes, bytes. */
  arenaBytes?: number;
}

/** Whether a worker's message is meant for Blockwright; a worker may get others. */
export function isConnectMessage(message: unknown): message is ConnectMessage {
  return (
    typeof message === "object" &&
    message !== null &&
    "blockwright" in message &&
    message.blockwright === "connect"
  );
}
