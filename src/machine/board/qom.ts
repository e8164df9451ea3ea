/**
 * A machine's devices as the tree of objects shows them. Source: behaviour of QEMU 7.2's qdev and of the `pc` machine.
 */
import { CommandError } from "../../base/errors.ts";
import type { Json } from "../../wire/qapi/index.ts";
import { container, type QomObject } from "../qom/tree.ts";
import type { Board } from "./board.ts";
import { type BoardDevice, isOn, propertyWord } from "./device.ts";
import { deviceProperties } from "./properties.ts";

/** The machine, with its devices. */
export function machineObject(board: Board, type: string): QomObject {
  const named = [...board.devices].filter(({ id }) => id !== "");
  const within = (folder: string): [string, QomObject][] =>
    [...board.devices].flatMap((device) =>
      folderOf(device.path) === folder ? [[lastPart(device.path), deviceObject(device)]] : [],
    );
  return container(
    [
      ["unattached", container(within("/machine/unattached"))],
      ["peripheral-anon", container(within("/machine/peripheral-anon"))],
      ...within("/machine"),
      ["peripheral", container(named.map((device) => [device.id, deviceObject(device)]))],
    ],
    type,
  );
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

function lastPart(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function deviceObject(device: BoardDevice): QomObject {
  const { model } = device;
  const inner = /^virtio-(?:blk|scsi)/.exec(model.name)?.[0];
  const base = {
    properties: [...deviceProperties, ...model.properties],
    get: (name: string) => valueOf(device, name),
  };
  const held = { type: `${inner}-device`, ...base, set: refuse("anonymous device", `${inner}-device`) };
  return {
    type: model.name,
    ...base,
    set: refuse(device.id === "" ? "anonymous device" : `device '${device.id}'`, model.name),
    ...(inner === undefined ? {} : { children: new Map([["virtio-backend", held]]) }),
  };
}

function refuse(whose: string, type: string): (name: string) => never {
  return (name) => {
    throw new CommandError(
      `Attempt to set property '${name}' on ${whose} (type '${type}') after it was realized`,
    );
  };
}

function valueOf({ model, bus, properties, disk }: BoardDevice, name: string): Json | undefined {
  if (name === "realized" || name === "hotpluggable") return true;
  if (name === "parent_bus") return bus.name === "pci.0" ? "/machine/i440fx/pci.0" : bus.name;
  if (name === "drive") return disk?.drive.name || (disk?.drive.node?.name ?? "");
  const given = properties[name];
  if (given === undefined) return atWork[name];
  const row = model.properties.find((one) => one.name === name);
  if (row?.type === "bool") return isOn(given);
  return row && /^u?int|^size$/.test(row.type) ? Number(given) : propertyWord(given);
}

/** What devices make of the values at first. */
const atWork: Readonly<Record<string, Json>> = {
  logical_block_size: 512,
  physical_block_size: 512,
  "num-queues": 1,
};
