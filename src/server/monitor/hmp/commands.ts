/**
 * The commands of the human monitor. Most are a QMP command in other words. Source: behaviour of QEMU 7.2's human monitor.
 */
import { CommandError } from "../../../base/errors.ts";
import { asTold, given, type HmpCommand, type HmpHost, parameters, Reported, text } from "./command.ts";
import type { Json } from "../../../wire/qapi/index.ts";
import { snapshotCommands } from "./snapshots.ts";
import type { HmpArguments } from "./words.ts";

/** A command that is a QMP command. */
function asQmp(
  name: string,
  [spec, synopsis, help]: readonly [spec: string, synopsis: string, help: string],
  call: readonly [command: string, args: (args: HmpArguments) => Json],
  alias?: string,
): HmpCommand {
  return {
    name,
    ...(alias === undefined ? {} : { alias }),
    parameters: parameters(spec),
    synopsis,
    help,
    run: async (host, args) => {
      await host.execute(call[0], call[1](args));
    },
  };
}

const none = (): Json => given({});
const device = (args: HmpArguments): Json => given({ device: text(args, "device") });

async function qemuIo(host: HmpHost, args: HmpArguments): Promise<string> {
  const { board } = host;
  const name = text(args, "device") ?? "";
  const line = text(args, "command") ?? "";
  if (args["qdev"] === true) return host.qemuIo(board.driveOf({ id: name }).backend, line);
  const drive = board.drive(name);
  if (drive) return host.qemuIo(drive.backend, line);
  const node = board.engine.graph.nodeOrDevice({ node: name });
  const passing = board.addDrive({ name: "" });
  try {
    await passing.insert(node);
    return await host.qemuIo(passing.backend, line);
  } finally {
    await board.removeDrive(passing);
  }
}

async function commit({ board, commit: write }: HmpHost, args: HmpArguments): Promise<void> {
  const name = text(args, "device")!;
  if (name === "all") {
    for (const { node } of board.drives) if (node?.backing) await write(node);
    return;
  }
  const drive = board.drive(name);
  if (!drive) throw new Reported(`Device '${name}' not found`);
  if (!drive.node) throw new Reported(`Device '${name}' has no medium`);
  if (!drive.node.backing) throw new Reported(`'commit' error for '${name}': Operation not supported`);
  await write(drive.node);
}

async function deleteDrive({ board }: HmpHost, args: HmpArguments): Promise<void> {
  const name = text(args, "id")!;
  const { graph } = board.engine;
  const drive = board.drive(name);
  if (!drive) {
    if (graph.findNode(name)) return graph.remove(name);
    throw new Reported(`Device '${name}' not found`);
  }
  drive.node?.checkBlocked("drive-del");
  await drive.remove();
  await board.forgetName(drive);
}

const readOnlyModes: readonly string[] = ["retain", "read-only", "read-write"];

async function change(host: HmpHost, args: HmpArguments): Promise<void> {
  const name = text(args, "device")!;
  const mode = text(args, "read-only-mode");
  if (mode !== undefined && !readOnlyModes.includes(mode))
    throw new CommandError(`invalid parameter value: ${mode}`);
  if (name === "vnc") {
    if (mode !== undefined) throw new CommandError("Parameter 'read-only-mode' is invalid for VNC");
    throw new Reported("Expected 'password' after 'vnc'");
  }
  await host.execute(
    "blockdev-change-medium",
    given({
      device: name,
      filename: text(args, "target"),
      format: text(args, "arg"),
      "read-only-mode": mode,
      force: args["force"] === true,
    }),
  );
}

const copyMode = (args: HmpArguments): { mode: string; sync: string } => ({
  mode: args["reuse"] === true ? "existing" : "absolute-paths",
  sync: args["full"] === true ? "full" : "top",
});

const blockCommands: readonly HmpCommand[] = [
  {
    name: "qemu-io",
    parameters: parameters("-d:qdev device:B command:s"),
    synopsis: '[-d] [device] "[command]"',
    help: "carry out a command of qemu-io on a drive, a node, or with -d a device",
    run: qemuIo,
  },
  {
    name: "commit",
    parameters: parameters("device:B"),
    synopsis: "device|all",
    help: "write what overlays hold into their backing files",
    run: commit,
  },
  asQmp(
    "block_resize",
    ["device:B size:o", "device size", "resize a block image"],
    ["block_resize", (args) => given({ device: text(args, "device"), size: args["size"] })],
  ),
  asQmp(
    "block_stream",
    ["device:B speed:o? base:s?", "device [speed [base]]", "copy what the backing files hold into a disk"],
    [
      "block-stream",
      (args) =>
        given({
          "job-id": text(args, "device"),
          device: text(args, "device"),
          base: text(args, "base"),
          speed: args["speed"],
        }),
    ],
  ),
  asQmp(
    "block_job_set_speed",
    ["device:B speed:o", "device speed", "limit the speed of a block job"],
    ["block-job-set-speed", (args) => given({ device: text(args, "device"), speed: args["speed"] })],
  ),
  asQmp(
    "block_job_cancel",
    ["-f:force device:B", "[-f] device", "end a block job (-f: at once)"],
    ["block-job-cancel", (args) => given({ device: text(args, "device"), force: args["force"] === true })],
  ),
  asQmp(
    "block_job_complete",
    ["device:B", "device", "let a block job finish"],
    ["block-job-complete", device],
  ),
  asQmp("block_job_pause", ["device:B", "device", "pause a block job"], ["block-job-pause", device]),
  asQmp(
    "block_job_resume",
    ["device:B", "device", "let a paused block job go on"],
    ["block-job-resume", device],
  ),
  asQmp(
    "block_set_io_throttle",
    [
      "device:B bps:i bps_rd:i bps_wr:i iops:i iops_rd:i iops_wr:i",
      "device bps bps_rd bps_wr iops iops_rd iops_wr",
      "limit what a disk does in a second",
    ],
    ["block_set_io_throttle", (args) => given({ ...args })],
  ),
  asQmp(
    "eject",
    ["-f:force device:B", "[-f] device", "take a medium out of a removable drive"],
    ["eject", (args) => given({ device: text(args, "device"), force: args["force"] === true })],
  ),
  {
    name: "drive_add",
    parameters: parameters("-n:node pci_addr:s opts:s"),
    synopsis: "[-n] slot option=value,...",
    help: "add a drive as -drive does, or with -n a node; the slot is not looked at",
    run: async (host, args) => {
      if (args["node"] === true) return asTold(() => host.addNode(text(args, "opts")!));
      return `${await asTold(() => host.addDrive(text(args, "opts")!))}\n`;
    },
  },
  {
    name: "drive_del",
    parameters: parameters("id:B"),
    synopsis: "device",
    help: "remove host block device",
    run: deleteDrive,
  },
  {
    name: "change",
    parameters: parameters("-f:force device:B target:F arg:s? read-only-mode:s?"),
    synopsis: "device [-f] filename [format [read-only-mode]]",
    help: "put another medium into a removable drive",
    run: change,
  },
];

const copyCommands: readonly HmpCommand[] = [
  asQmp(
    "drive_mirror",
    [
      "-n:reuse -f:full device:B target:s format:s?",
      "[-n] [-f] device target [format]",
      "mirror a disk to another image while it is in use (-n: one that is there already, -f: with all that the backing files hold)",
    ],
    [
      "drive-mirror",
      (args) =>
        given({
          device: text(args, "device"),
          target: text(args, "target"),
          format: text(args, "format"),
          unmap: true,
          ...copyMode(args),
        }),
    ],
  ),
  asQmp(
    "drive_backup",
    [
      "-n:reuse -f:full -c:compress device:B target:s format:s?",
      "[-n] [-f] [-c] device target [format]",
      "copy a disk as it is now to another image (-n: one that is there already, -f: with all that the backing files hold, -c: compressed)",
    ],
    [
      "drive-backup",
      (args) =>
        given({
          device: text(args, "device"),
          target: text(args, "target"),
          format: text(args, "format"),
          compress: args["compress"] === true,
          ...copyMode(args),
        }),
    ],
  ),
  asQmp(
    "snapshot_blkdev",
    [
      "-n:reuse device:B snapshot-file:s? format:s?",
      "[-n] device [new-image-file] [format]",
      "put an overlay over a disk, which takes its place (-n: one that is there already)",
    ],
    [
      "blockdev-snapshot-sync",
      (args) => {
        const file = text(args, "snapshot-file");
        if (file === undefined) throw new CommandError("Parameter 'snapshot-file' is missing");
        const mode = args["reuse"] === true ? "existing" : "absolute-paths";
        return given({
          device: text(args, "device"),
          "snapshot-file": file,
          format: text(args, "format"),
          mode,
        });
      },
    ],
  ),
  asQmp(
    "snapshot_blkdev_internal",
    ["device:B name:s", "device name", "take a snapshot within the image of a disk"],
    [
      "blockdev-snapshot-internal-sync",
      (args) => given({ device: text(args, "device"), name: text(args, "name") }),
    ],
  ),
  asQmp(
    "snapshot_delete_blkdev_internal",
    [
      "device:B name:s id:s?",
      "device name [id]",
      "delete a snapshot within the image of a disk, by its name and, if given, its id",
    ],
    [
      "blockdev-snapshot-delete-internal-sync",
      (args) => given({ device: text(args, "device"), name: text(args, "name"), id: text(args, "id") }),
    ],
  ),
];

const machineCommands: readonly HmpCommand[] = [
  asQmp("quit", ["", "", "quit the emulator"], ["quit", none], "q"),
  asQmp("stop", ["", "", "stop emulation"], ["stop", none], "s"),
  asQmp("cont", ["", "", "resume emulation"], ["cont", none], "c"),
  asQmp("system_reset", ["", "", "reset the system"], ["system_reset", none]),
  asQmp(
    "device_del",
    ["id:s", "device", "remove device"],
    ["device_del", (args) => given({ id: text(args, "id") })],
  ),
  asQmp(
    "object_del",
    ["id:s", "id", "destroy QOM object"],
    ["object-del", (args) => given({ id: text(args, "id") })],
  ),
];

/** All of them, by name. */
export const hmpCommands: readonly HmpCommand[] = [
  ...blockCommands,
  ...copyCommands,
  ...machineCommands,
  ...snapshotCommands,
].toSorted((a, b) => (a.name < b.name ? -1 : 1));
