/**
 * Under which name the program runs. Its own is blockwright; programs that `blockwright shims` makes let it run as one of
 * QEMU's, whose name then stands in all that it prints, and whose command line it has.
 */
import { qemuRelease, version } from "../version.ts";

/** The program's own name. */
export const OWN_NAME = "blockwright";

/** A program of QEMU's that this one can stand in for. */
export interface StandIn {
  /** The verb whose command line is that program's; undefined: all verbs of `verbs`. */
  readonly verb?: string;
  /** The verbs that it has, where it has some. */
  readonly verbs?: readonly string[];
  /** --help begins with the version. */
  readonly helpTellsVersion?: boolean;
  /** --version lacks the word "version". */
  readonly bareVersion?: boolean;
  /** How --help goes on: usage, and what the program is. */
  readonly usage: string;
  readonly summary: string;
}

const imgVerbs = [
  ...["amend", "bench", "bitmap", "check", "commit", "compare", "convert", "create", "dd"],
  ...["info", "map", "measure", "rebase", "resize", "snapshot"],
];

/** The programs of QEMU's, by name. Another one is a row. */
export const standIns: Readonly<Record<string, StandIn>> = {
  "qemu-img": {
    verbs: imgVerbs,
    helpTellsVersion: true,
    usage: "usage: qemu-img [standard options] command [command options]",
    summary: "QEMU disk image utility",
  },
  "qemu-io": {
    verb: "io",
    usage: "Usage: qemu-io [OPTIONS]... [-c STRING]... [file]",
    summary: "QEMU Disk exerciser",
  },
  "qemu-nbd": {
    verb: "nbd",
    bareVersion: true,
    usage: "Usage: qemu-nbd [OPTIONS] FILE\n  or:  qemu-nbd -L [OPTIONS]",
    summary: "QEMU Disk Network Block Device Utility",
  },
  "qemu-storage-daemon": {
    verb: "daemon",
    usage: "Usage: qemu-storage-daemon [options]",
    summary: "QEMU storage daemon",
  },
  "qemu-system-x86_64": {
    verb: "machine",
    helpTellsVersion: true,
    usage: "usage: qemu-system-x86_64 [options] [disk_image]",
    summary: "QEMU without a CPU: disks, devices and monitors",
  },
};

/** The first argument by which a shim says as what the program runs. */
const RUN_AS = "--run-as=";

let current = OWN_NAME;

/** What stands before a message, without the colon. */
export function programName(): string {
  return current;
}

/** The program of QEMU's that this run stands in for. */
export function standIn(): StandIn | undefined {
  return standIns[current];
}

/** The name before the messages of a verb that is a program of its own in QEMU. */
export function verbProgram(verb: string): string {
  return standIn() ? current : `${current} ${verb}`;
}

/** `qemu-img version 7.2.22 (Blockwright 0.1.0)`: scripts read the release out of it. */
export function standInVersion(): string {
  const word = standIn()?.bareVersion ? "" : "version ";
  return `${current} ${word}${qemuRelease} (Blockwright ${version})`;
}

/** The arguments that make a new process run under the same name. */
export function runAsArguments(name = current): string[] {
  return name === OWN_NAME ? [] : [RUN_AS + name];
}

/** How the other program's --help begins. */
export function helpHead({ helpTellsVersion, usage, summary }: StandIn): string {
  return `${helpTellsVersion ? `${standInVersion()}\n` : ""}${usage}\n${summary}\n`;
}

/** Takes the name out of the arguments, if a shim put one there; gives those that are left. */
export function takeName(args: readonly string[]): string[] {
  const name = args[0]?.startsWith(RUN_AS) ? args[0].slice(RUN_AS.length) : "";
  if (!Object.hasOwn(standIns, name)) return [...args];
  current = name;
  return args.slice(1);
}
