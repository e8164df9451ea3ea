/**
 * How a command of `io` fails: with a line on stdout, on stderr, or on stderr after the program's name, and with the
 * command's synopsis where it was used wrongly. Source: behaviour of qemu-io 7.2.
 */

/** Where a message goes; `note`: to stderr after the program's name. */
export type Channel = "stdout" | "stderr" | "note";

/** Ends a command, which then counts as failed. */
export class IoFailure extends Error {
  readonly channel: Channel;
  /** The synopsis follows on stdout. */
  readonly usage: boolean;

  constructor(message: string, channel: Channel = "stdout", usage = false) {
    super(message);
    this.channel = channel;
    this.usage = usage;
  }
}

/** The command was used wrongly; its synopsis says how it is meant. */
export function wrongUse(message = ""): IoFailure {
  return new IoFailure(message, "stderr", true);
}
