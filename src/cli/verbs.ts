/**
 * The verbs of the program, by name. Only the command line of the one that is asked for is loaded, and what it does when it
 * is carried out: a program that starts for every small image must start at once.
 */
import type { Command } from "commander";

type Add = (program: Command) => void;

/** The daemon has qemu-storage-daemon's command line, whose options are carried out in their order. */
function addDaemon(program: Command): void {
  program
    .command("daemon")
    .description("run block jobs over QMP, with the command line of qemu-storage-daemon")
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions()
    .argument("[options...]")
    .action(async (words: string[]) => {
      const { daemon } = await import("./daemon/daemon.ts");
      const { endProcess } = await import("../platform/node/exit.ts");
      endProcess(await daemon(words));
    });
}

/** The machine has qemu-system's command line, in which an option may begin with one dash or two. */
function addMachine(program: Command): void {
  program
    .command("machine")
    .description("a machine without a CPU: disks, devices and monitors, with QEMU's command line")
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions()
    .argument("[options...]")
    .action(async (words: string[]) => {
      const { machine } = await import("./machine/machine.ts");
      const { endProcess } = await import("../platform/node/exit.ts");
      endProcess(await machine(words));
    });
}

/** In the order of --help. A verb that prints a table of all of them loads them all. */
const verbs: Readonly<Record<string, () => Promise<Add>>> = {
  daemon: async () => addDaemon,
  machine: async () => addMachine,
  create: async () => (await import("./verbs/create/command.ts")).addCreate,
  check: async () => (await import("./verbs/check/command.ts")).addCheck,
  info: async () => (await import("./verbs/info/command.ts")).addInfo,
  map: async () => (await import("./verbs/map/command.ts")).addMap,
  compare: async () => (await import("./verbs/compare/command.ts")).addCompare,
  convert: async () => (await import("./verbs/convert/command.ts")).addConvert,
  dd: async () => (await import("./verbs/dd/command.ts")).addDd,
  snapshot: async () => (await import("./verbs/snapshot/command.ts")).addSnapshot,
  rebase: async () => (await import("./verbs/rebase/command.ts")).addRebase,
  resize: async () => (await import("./verbs/resize/command.ts")).addResize,
  measure: async () => (await import("./verbs/measure/command.ts")).addMeasure,
  amend: async () => (await import("./verbs/amend/command.ts")).addAmend,
  bitmap: async () => (await import("./verbs/bitmap/command.ts")).addBitmap,
  bench: async () => (await import("./verbs/bench/command.ts")).addBench,
  io: async () => (await import("./verbs/io/command.ts")).addIo,
  nbd: async () => (await import("./verbs/nbd/command.ts")).addNbd,
  manifest: async () => (await import("./verbs/manifest/command.ts")).addManifest,
  mirror: async () => (await import("./verbs/mirror/command.ts")).addMirror,
  backup: async () => (await import("./verbs/backup/command.ts")).addBackup,
  stream: async () => (await import("./verbs/stream/command.ts")).addStream,
  commit: async () => (await import("./verbs/commit/command.ts")).addCommit,
  workload: async () => (await import("./verbs/workload/command.ts")).addWorkload,
  sim: async () => (await import("./verbs/sim/command.ts")).addSim,
  job: async () => (await import("./verbs/job/command.ts")).addJob,
  fleet: async () => (await import("./verbs/fleet/command.ts")).addFleet,
  demo: async () => (await import("./verbs/demo/command.ts")).addDemo,
  shims: async () => (await import("./verbs/shims/command.ts")).addShims,
  completion: async () => (await import("./verbs/completion/command.ts")).addCompletion,
  man: async () => (await import("./verbs/completion/command.ts")).addMan,
};

/** Their names. */
export const verbNames: readonly string[] = Object.keys(verbs);

const OF_ALL = ["completion", "man"];
const OF_NONE = ["-V", "--version"];

/** Adds the verb that is the `first` word; all verbs where that is none, or one that tells of all. */
export async function addVerbs(program: Command, first: string): Promise<void> {
  if (OF_NONE.includes(first)) return;
  const isOne = Object.hasOwn(verbs, first) && !OF_ALL.includes(first);
  const wanted = isOne ? [verbs[first]!] : Object.values(verbs);
  for (const add of await Promise.all(wanted.map((load) => load()))) add(program);
}
