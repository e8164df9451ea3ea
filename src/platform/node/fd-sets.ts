/**
 * Sets of descriptors that somebody else has opened, and the names `/dev/fdset/N` by which files are opened out of them: the
 * newest descriptor of the wanted access mode serves. Source: behaviour of QEMU 7.2.
 *
 * Invariant: a descriptor is open as long as a set lists it or a file uses it. QEMU opens a duplicate for each file; here files share
 * the descriptor, which has no position that anybody relies on.
 */
import * as fs from "node:fs";
import { strerror } from "../../base/errno.ts";
import { BlockError, CommandError } from "../../base/errors.ts";

const FOLDER = "/dev/fdset/";
const { O_RDONLY, O_RDWR, O_WRONLY } = fs.constants;
const ACCESS = O_RDONLY | O_RDWR | O_WRONLY;

interface Member {
  readonly fd: number;
  readonly opaque: string | undefined;
  /** Somebody has removed it; it goes when nothing holds the set. */
  removed: boolean;
}

interface FdSet {
  /** Oldest first. */
  readonly members: Member[];
  /** Files that are open out of it. */
  files: number;
}

/** Whether a name means a set. */
export function isFdSetName(name: string): boolean {
  return name.startsWith(FOLDER);
}

/** How a descriptor was opened: O_RDONLY, O_RDWR or O_WRONLY; undefined where the system doesn't tell. */
function accessOf(fd: number): number | undefined {
  try {
    const [, flags] = /^flags:\s*([0-7]+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, "utf8")) ?? [];
    return flags === undefined ? undefined : Number.parseInt(flags, 8) & ACCESS;
  } catch {
    return undefined;
  }
}

/** The sets and named descriptors of this process. */
export class FdSets {
  /** While the machine stands still nothing is taken away. */
  isRunning: () => boolean = () => true;
  readonly #sets = new Map<number, FdSet>();
  readonly #named = new Map<string, number>();
  /** How often each descriptor is listed, or open as a file. */
  readonly #holds = new Map<number, number>();
  /** The sets that open files came from, by descriptor. */
  readonly #opened = new Map<number, FdSet[]>();
  #monitors = 0;

  /** Adds a descriptor to a set; without a number, to a new one, of the lowest free number. Throws CommandError, and closes it. */
  add(
    fd: number,
    { set, opaque }: { set?: number; opaque?: string } = {},
  ): { "fdset-id": number; fd: number } {
    if (set !== undefined && set < 0) {
      this.discard(fd);
      throw new CommandError("Parameter 'fdset-id' expects a non-negative value");
    }
    const id = set ?? this.#freeNumber();
    const found = this.#sets.get(id) ?? { members: [], files: 0 };
    this.#sets.set(id, found);
    found.members.push({ fd, opaque, removed: false });
    this.#hold(fd, 1);
    return { "fdset-id": id, fd };
  }

  #freeNumber(): number {
    let id = 0;
    while (this.#sets.has(id)) id += 1;
    return id;
  }

  /** Removes one descriptor of a set, or all. Throws CommandError. */
  remove(id: number, fd?: number): void {
    const set = this.#sets.get(id);
    const members = set?.members.filter((member) => fd === undefined || member.fd === fd);
    if (!set || (fd !== undefined && members!.length === 0)) {
      const what = fd === undefined ? "" : `, fd:${fd}`;
      throw new CommandError(`File descriptor named 'fdset-id:${id}${what}' not found`);
    }
    for (const member of members!) member.removed = true;
    this.#tidy(set);
  }

  /** All sets, the highest number first. */
  rows(): { "fdset-id": number; fds: { fd: number; opaque?: string }[] }[] {
    const ids = [...this.#sets.keys()].sort((a, b) => b - a);
    return ids.map((id) => ({
      "fdset-id": id,
      fds: this.#sets.get(id)!.members.map(({ fd, opaque }) => ({
        fd,
        ...(opaque === undefined ? {} : { opaque }),
      })),
    }));
  }

  /** Keeps a descriptor under a name, in the place of the one that had it. */
  keep(name: string, fd: number): void {
    const before = this.#named.get(name);
    if (before !== undefined) fs.closeSync(before);
    this.#named.set(name, fd);
  }

  /** Closes the descriptor of a name. Throws CommandError. */
  forget(name: string): void {
    const fd = this.#named.get(name);
    if (fd === undefined) throw new CommandError(`File descriptor named '${name}' not found`);
    this.#named.delete(name);
    fs.closeSync(fd);
  }

  /** Closes a descriptor that nobody wants. */
  discard(fd: number): void {
    fs.closeSync(fd);
  }

  /** A monitor has a client. */
  monitorOpened(): void {
    this.#monitors += 1;
  }

  /** It has gone. What the last one leaves, and no file uses, is closed. */
  monitorClosed(): void {
    this.#monitors -= 1;
    for (const set of [...this.#sets.values()]) this.#tidy(set);
  }

  /** The descriptor for a file of that name. Errors, of operation `dup`: EINVAL, ENOENT, EACCES. */
  open(name: string, flags: number): number {
    const digits = name.slice(FOLDER.length);
    if (!/^[0-9]+$/.test(digits))
      throw new BlockError({ code: "EINVAL", op: "dup", message: `Could not parse fdset ${name}` });
    const set = this.#sets.get(Number(digits));
    const found = set?.members.findLast(({ fd }) => (accessOf(fd) ?? flags & ACCESS) === (flags & ACCESS));
    if (!set || !found) throw cannotDup(set ? "EACCES" : "ENOENT", name, flags);
    const { fd } = found;
    set.files += 1;
    this.#hold(fd, 1);
    this.#opened.set(fd, [...(this.#opened.get(fd) ?? []), set]);
    return fd;
  }

  /** A file has closed; whether its descriptor is one of these, which nobody else shall close. */
  release(fd: number): boolean {
    const sets = this.#opened.get(fd);
    const set = sets?.pop();
    if (!sets || !set) return false;
    if (sets.length === 0) this.#opened.delete(fd);
    set.files -= 1;
    this.#hold(fd, -1);
    if (set.files === 0) this.#tidy(set);
    return true;
  }

  /** What the descriptor of that name is; for those who ask by name. Undefined: there is none. */
  facts(name: string): fs.BigIntStats | undefined {
    const member = this.#sets.get(Number(name.slice(FOLDER.length)))?.members.at(-1);
    return member && fs.fstatSync(member.fd, { bigint: true });
  }

  /** Closes what was removed; all, where neither a file nor a monitor holds the set. An empty set goes. */
  #tidy(set: FdSet): void {
    const all = set.files === 0 && this.#monitors === 0;
    const gone = this.isRunning() ? set.members.filter(({ removed }) => removed || all) : [];
    for (const member of gone) {
      set.members.splice(set.members.indexOf(member), 1);
      this.#hold(member.fd, -1);
    }
    if (set.members.length > 0 || set.files > 0) return;
    for (const [id, other] of this.#sets) if (other === set) this.#sets.delete(id);
  }

  #hold(fd: number, by: number): void {
    const holds = (this.#holds.get(fd) ?? 0) + by;
    if (holds > 0) return void this.#holds.set(fd, holds);
    this.#holds.delete(fd);
    fs.closeSync(fd);
  }
}

function cannotDup(code: "EACCES" | "ENOENT", name: string, flags: number): BlockError {
  const shown = flags & (ACCESS | (fs.constants.O_DIRECT ?? 0));
  const message = `Could not dup FD for ${name} flags ${shown.toString(16)}: ${strerror(code)}`;
  return new BlockError({ code, op: "dup", message });
}

/** Descriptors are the process's, and so are their sets. */
export const fdSets = new FdSets();
