/** The commands `abort` and `sigraise`, which end the program in the middle of its work. Source: behaviour of qemu-io 7.2. */
import { constants } from "node:os";
import { byteCount } from "./arguments.ts";
import { IoFailure } from "./failure.ts";
import type { IoCommand, Session } from "./session.ts";

/** The C library's NSIG. */
const MOST_SIGNALS = 65n;

/** Signals that qemu-io holds back, or has a use for. */
const held: readonly number[] = ["SIGBUS", "SIGUSR1", "SIGALRM", "SIGIO"].map(
  (name) => constants.signals[name as NodeJS.Signals],
);

/** Sends this process a signal, with the effect that it has on a program that does not know it. */
function raise(text: string): void {
  const number = byteCount(text);
  if (number > MOST_SIGNALS)
    throw new IoFailure(`signal argument '${text}' is too large to be a valid signal`);
  if (held.includes(Number(number))) return;
  const [name] = Object.entries(constants.signals).find(([, value]) => BigInt(value) === number) ?? [];
  if (name !== undefined) process.removeAllListeners(name);
  try {
    if (number > 0n) process.kill(process.pid, Number(number));
  } catch {
    // As raise() of a signal that there is not.
  }
}

/** The commands. */
export const crashCommands: readonly IoCommand[] = [
  {
    name: "abort",
    synopsis: "",
    summary: "ends the program as a crash would",
    words: [0, 0],
    diskless: true,
    // process.abort() would print where in the program it was.
    run: () => process.kill(process.pid, "SIGABRT"),
  },
  {
    name: "sigraise",
    synopsis: "signal",
    summary: "sends the program a signal",
    details: ["sigraise 9  is a kill; numbers as those of kill(1)"],
    words: [1, 1],
    diskless: true,
    run: async (_session: Session, args) => {
      args.takeAll();
      raise(args.rest[0]!);
      // A signal that ends the program comes before the next command.
      await new Promise((resolve) => setTimeout(resolve, 20));
      return true;
    },
  },
];
