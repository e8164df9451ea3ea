/**
 * What the machine's command line says of itself: usage, its machines, its devices.
 */
import { deviceModel, deviceModels } from "../../machine/board/models.ts";
import type { PropertyRow } from "../../machine/qom/property.ts";
import { createEngine } from "../../node-engine.ts";
import { qemuRelease } from "../../version.ts";
import { ownDrivers } from "../../wire/qapi/index.ts";
import { helpHead, standIn, verbProgram } from "../program.ts";

/** The text of `-help`. */
export function usage(): string {
  const alias = standIn();
  const head = alias
    ? helpHead(alias)
    : `Usage: ${verbProgram("machine")} [options] [disk image]\nA machine without a CPU: disks, devices and monitors, with the command line of qemu-system-x86_64.\n`;
  return `${head}
  -drive [file=]<file>[,id=<ID>][,if=none|ide|virtio|floppy][,format=<F>][,<option>=<V>…]
  -hda, -hdb, -hdc, -hdd, -cdrom, -fda, -fdb <file>
                         a drive, with its device unless if=none
  -blockdev [driver=]<driver>[,node-name=<N>][,…] | <JSON>
                         a block node
  -device [driver=]<model>[,drive=<drive or node>][,id=<ID>][,<property>=<V>…] | <JSON>
                         a device; -device help lists the models
  -object [qom-type=]throttle-group|iothread|secret,id=<ID>[,…] | <JSON>
  -chardev socket,id=<ID>,path=<P>,server=on,wait=off | socket,id=<ID>,fd=<N> | stdio,id=<ID> | null,id=<ID>
  -mon [chardev=]<ID>[,mode=readline|control][,pretty=on|off]
  -monitor, -qmp, -qmp-pretty stdio | unix:<path>[,server=on,wait=off] | chardev:<ID> | none | null
                         monitors: for people, or QMP
  -qtest <the same>, -accel qtest
                         the test protocol, with a clock that stands still until it is stepped
  -compat 7.2|10.1|blockwright
                         whose commands monitors take (default: QEMU 7.2's)
  -allow-tcp-monitor     let QMP be on TCP, on loopback addresses
  -S                     the machine is paused at first
  -gate deny|same-dir|local|all[,https://<host>…]
                         which files an image may name to be opened (default: local)
  -pidfile <file>, -daemonize, -version, -help
`;
}

/** The text of `-machine help`. */
export function machineHelp(): string {
  const row = (name: string, text: string): string => `${name.padEnd(20)} ${text}\n`;
  const release = qemuRelease.split(".").slice(0, 2).join(".");
  return [
    "Supported machines are:\n",
    row("pc", `Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-${release})`),
    row(`pc-i440fx-${release}`, "Standard PC (i440FX + PIIX, 1996) (default)"),
    row("none", "empty machine"),
  ].join("");
}

/** The names of the drivers that are there; for a stand-in, of those that QEMU may have. */
export function formatNames(): string[] {
  const { drivers } = createEngine().graph;
  const named = [...drivers].filter(({ isLibraryOnly, comesAndGoes }) => !isLibraryOnly && !comesAndGoes);
  const names = named.map(({ name }) => name).toSorted();
  return standIn() ? names.filter((name) => !ownDrivers.has(name)) : names;
}

/** The text of `-drive format=help`. */
export function formatsHelp(): string {
  const list = formatNames().join(" ");
  return `Supported formats: ${list}\nSupported formats (read-only): ${list}\n`;
}

/** The text of `-device help`. */
export function deviceHelp(): string {
  const rows = deviceModels.map(({ name, bus, aliases }) => {
    const also = aliases?.[0];
    return `name "${name}", bus ${bus}${also === undefined ? "" : `, alias "${also}"`}\n`;
  });
  const isBridge = (at: number): boolean => deviceModels[at]?.drive === undefined && at === 0;
  const bridges = rows.filter((_, at) => isBridge(at));
  const storage = rows.filter((_, at) => !isBridge(at));
  return `Controller/Bridge/Hub devices:\n${bridges.join("")}\nStorage devices:\n${storage.join("")}`;
}

/** The text of `-device MODEL,help`; undefined: there is no such model. */
export function propertiesHelp(name: string): string | undefined {
  const model = deviceModel(name);
  if (!model) return undefined;
  const rows = model.properties.toSorted((a, b) => (word(a) < word(b) ? -1 : 1));
  return [`${model.name} options:`, ...rows.map(propertyHelp), ""].join("\n");
}

const word = ({ name, type }: PropertyRow): string => `${name}=<${type}>`;

function propertyHelp(row: PropertyRow): string {
  const { description = "", "default-value": value } = row;
  const more = `${description}${value === undefined ? "" : ` (default: ${typeof value === "bigint" ? value.toString() : JSON.stringify(value)})`}`;
  return more === "" ? `  ${word(row)}` : `  ${word(row).padEnd(22)} - ${more}`;
}
