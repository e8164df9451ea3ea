/**
 * `-add-fd fd=N,set=M[,opaque=WORDS]`: descriptors that whoever started the machine has opened for it. Source: behaviour of QEMU 7.2.
 */
import { fstatSync } from "node:fs";
import { CommandError } from "../../base/errors.ts";
import { fdSets } from "../../platform/node/fd-sets.ts";
import type { GivenOption } from "./options.ts";
import { optionPairs } from "./opts.ts";

const STDERR = 2;

interface Wish {
  fd: number;
  set: number;
  opaque: string | undefined;
}

/** Reads the option's value. Throws CommandError. */
function readWish(value: string): Wish {
  const wish: Wish = { fd: -1, set: -1, opaque: undefined };
  for (const [key, text] of optionPairs(value)) {
    if (key === "opaque") wish.opaque = text;
    else if (key !== "fd" && key !== "set") throw new CommandError(`Invalid parameter '${key}'`);
    else if (!/^-?(0[xX][0-9a-fA-F]+|[0-9]+)$/.test(text))
      throw new CommandError(`Parameter '${key}' expects a number`);
    else wish[key] = text.startsWith("-") ? -1 : Number(text);
  }
  return wish;
}

/** Takes a descriptor over. Throws CommandError. */
export function addDescriptor(value: string): void {
  const { fd, set, opaque } = readWish(value);
  if (fd < 0) throw new CommandError("fd option is required and must be non-negative");
  if (fd <= STDERR) throw new CommandError("fd cannot be a standard I/O stream");
  if (!isDisk(fd)) throw new CommandError("fd is not valid or already in use");
  if (set < 0) throw new CommandError("set option is required and must be non-negative");
  fdSets.add(fd, { set, ...(opaque === undefined ? {} : { opaque }) });
}

/** Whether it is open on what a disk may be: Node's own descriptors are sockets, pipes and the like. */
function isDisk(fd: number): boolean {
  try {
    const stats = fstatSync(fd);
    return stats.isFile() || stats.isBlockDevice() || stats.isCharacterDevice();
  } catch {
    return false;
  }
}

/** The descriptors that options hand over, as far as they can be read, for a program that goes on in the background. */
export function givenDescriptors(options: readonly GivenOption[]): number[] {
  const values = options.filter(({ name }) => name === "add-fd").map(({ value = "" }) => value);
  return values.flatMap((value) => {
    const fd = Number(optionPairs(value).find(([key]) => key === "fd")?.[1]);
    return fd > STDERR && fd <= 1023 ? [fd] : [];
  });
}
