/**
 * The human monitor's commands on snapshots of the whole machine. Source: behaviour of QEMU 7.2's human monitor.
 */
import * as snapshots from "../../../machine/board/snapshots.ts";
import { asTold, type HmpCommand, type HmpHost, parameters, text } from "./command.ts";

/** savevm, loadvm, delvm. */
export const snapshotCommands: readonly HmpCommand[] = [
  {
    name: "savevm",
    parameters: parameters("name:s?"),
    synopsis: "[tag]",
    help: "take a snapshot of all disks; the saved machine is empty",
    run: ({ board }, args) => snapshots.saveAll(board, text(args, "name")),
  },
  {
    name: "loadvm",
    parameters: parameters("name:s"),
    synopsis: "tag",
    help: "make all disks what they were in a snapshot",
    run: ({ board }, args) => snapshots.loadAll(board, text(args, "name")!),
  },
  {
    name: "delvm",
    parameters: parameters("name:s"),
    synopsis: "tag",
    help: "forget a snapshot of all disks",
    run: ({ board }, args) => snapshots.removeAll(board, text(args, "name")!),
  },
];

/** `info snapshots`. */
export const infoSnapshots: HmpCommand = {
  name: "snapshots",
  parameters: [],
  synopsis: "",
  help: "show the snapshots of all disks",
  run: async ({ board, snapshotTable }: HmpHost): Promise<string> => {
    const { loadable, partial } = await asTold(() => snapshots.listAll(board));
    if (loadable.length === 0 && partial.length === 0) return "There is no snapshot available.\n";
    // The ids may differ from disk to disk.
    const all = loadable.map((snapshot) => ({ ...snapshot, id: "--" }));
    const list = all.length === 0 ? "None\n" : snapshotTable(all);
    const some = partial.map(
      ({ disk, snapshots: its }) =>
        `\nList of partial (non-loadable) snapshots on '${disk}':\n${snapshotTable(its)}`,
    );
    return `List of snapshots present on all disks:\n${list}${some.join("")}`;
  },
};
