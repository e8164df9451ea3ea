/**
 * The commands on the tree of objects. Source: QAPI qom schema, behaviour of QEMU 7.2.
 */
import { CommandError } from "../../../base/errors.ts";
import { deviceModel, deviceModels } from "../../../machine/board/models.ts";
import { deviceProperties } from "../../../machine/board/properties.ts";
import type { Engine } from "../../../machine/engine.ts";
import { objectKinds, qomObject } from "../../../machine/qom/objects.ts";
import type { PropertyRow } from "../../../machine/qom/property.ts";
import {
  container,
  objectAt,
  propertiesOf,
  propertyOf,
  type QomObject,
  setProperty,
} from "../../../machine/qom/tree.ts";
import type { TypeOf } from "../../../wire/qapi/index.ts";
import type { MachineArgsOf } from "../../../wire/qapi/machine/table.ts";
import type { CommandContext } from "../registry.ts";
import { chardevKinds } from "./chardev.ts";

/** What the tree has beside objects. */
export interface QomHost {
  /** The machine; absent in the storage daemon. */
  readonly machine?: () => QomObject;
  readonly chardevs: () => readonly { readonly id: string; readonly kind: string }[];
}

type Context = CommandContext<Engine>;

function rootOf({ machine, chardevs }: QomHost, { graph, objects }: Engine): QomObject {
  const made = objects.list().map(({ name, type }): [string, QomObject] => {
    const options = objects.described.get(name);
    return [name, options ? qomObject(graph, options) : { type: type.slice("child<".length, -1) }];
  });
  // The storage daemon has no container of objects before there is one.
  const isEmpty = made.length === 0 && machine === undefined;
  return container([
    ...(isEmpty ? [] : [["objects", container(made)] as const]),
    ...(machine ? [["machine", machine()] as const] : []),
    [
      "chardevs",
      container(chardevs().map(({ id, kind }): [string, QomObject] => [id, { type: `chardev-${kind}` }])),
    ],
  ]);
}

interface TypeRow {
  readonly name: string;
  readonly parent?: string;
  readonly abstract?: true;
  /** What it can be listed by. */
  readonly family: string;
  readonly properties: readonly PropertyRow[];
}

/** All types, those of devices where there is a machine. */
function typeRows({ machine }: QomHost): TypeRow[] {
  const objects = Object.entries(objectKinds).map(([name, { parent, properties }]) => ({
    ...{ name, parent, properties, family: "user-creatable" },
  }));
  const chardevs = chardevKinds.map((kind) => ({
    name: `chardev-${kind}`,
    parent:
      kind === "stdio" || kind === "file" ? "chardev-fd" : kind === "memory" ? "chardev-ringbuf" : "chardev",
    family: "chardev",
    properties: [],
  }));
  const devices = deviceModels.map(({ name, parent, properties }) => ({
    ...{ name, parent, family: "device", properties: [...deviceProperties, ...properties] },
  }));
  const rows: TypeRow[] = [
    { name: "container", parent: "object", family: "object", properties: [] },
    ...objects,
    ...chardevs,
    ...(machine ? devices : []),
  ];
  return [...rows, ...abstractRows(rows)];
}

function abstractRows(rows: readonly TypeRow[]): TypeRow[] {
  const known = new Set(rows.map(({ name }) => name));
  const parents = new Set(rows.flatMap(({ parent }) => parent ?? []).filter((name) => !known.has(name)));
  return [...parents].map((name) => ({
    name,
    ...(name === "object" ? {} : { parent: "object" }),
    abstract: true,
    family: rows.find(({ parent }) => parent === name)?.family ?? "object",
    properties: [],
  }));
}

function listTypes(
  host: QomHost,
  { implements: wanted = "object", abstract = false }: MachineArgsOf<"qom-list-types">,
): { name: string; parent?: string; abstract?: boolean }[] {
  const rows = typeRows(host).filter(
    ({ name, family, parent, abstract: isAbstract }) =>
      (abstract || !isAbstract) && [name, family, parent, "object"].includes(wanted),
  );
  return rows.map(({ name, parent, abstract: isAbstract }) => ({
    name,
    ...(parent === undefined ? {} : { parent }),
    ...(isAbstract ? { abstract: true } : {}),
  }));
}

function listProperties(host: QomHost, typename: string): TypeOf<"ObjectPropertyInfo">[] {
  const type = typeRows(host).find(({ name }) => name === typename);
  if (!type) throw new CommandError(`Class '${typename}' not found`, { qmpClass: "DeviceNotFound" });
  const rows = type.properties.map(({ name, type: kind, description }) => ({
    name,
    type: kind,
    ...(description === undefined ? {} : { description }),
  }));
  return [{ name: "type", type: "string" }, ...rows];
}

/** Handlers of both programs. */
export function qomHandlers(host: QomHost): object {
  return {
    "qom-list": ({ path }: { path: string }, { engine }: Context) =>
      propertiesOf(objectAt(rootOf(host, engine), path).object),
    "qom-get": ({ path, property }: MachineArgsOf<"qom-get">, { engine }: Context) =>
      propertyOf(objectAt(rootOf(host, engine), path), property),
    "qom-set": ({ path, property, value }: MachineArgsOf<"qom-set">, { engine }: Context) => {
      setProperty(objectAt(rootOf(host, engine), path), property, value);
      return {};
    },
    "qom-list-types": (args: MachineArgsOf<"qom-list-types">) => listTypes(host, args),
    "qom-list-properties": ({ typename }: { typename: string }) => listProperties(host, typename),
  };
}

/** device-list-properties, which a machine has. Throws CommandError. */
export function devicePropertyRows(host: QomHost, typename: string): TypeOf<"ObjectPropertyInfo">[] {
  const model = deviceModel(typename);
  if (model?.name === typename) return [...model.properties];
  if (typeRows(host).some(({ name }) => name === typename))
    throw new CommandError("Parameter 'typename' expects a non-abstract device type");
  throw new CommandError(`Device '${typename}' not found`, { qmpClass: "DeviceNotFound" });
}
