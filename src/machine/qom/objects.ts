/**
 * User-creatable objects as the monitor shows them: their types, the values that they were given, and what of them can be changed
 * later. A secret's text is not shown. Source: `qom-list-properties`, qom-get and qom-set of QEMU 7.2.
 */
import { assert } from "../../base/assert.ts";
import { CommandError } from "../../base/errors.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import { limitNames, type ThrottleLimits } from "../../block/throttle/config.ts";
import { throttleGroupsOf } from "../../block/throttle/throttle.ts";
import { type Json, type ObjectOptions, validate } from "../../wire/qapi/index.ts";
import { type PropertyRow, propertyRows } from "./property.ts";
import type { QomObject } from "./tree.ts";

const tls = "endpoint:QCryptoTLSCredsEndpoint dir:string verify-peer:bool=true priority:string";

/** A type: what it is derived from, and its properties in QEMU's order. */
export interface ObjectKind {
  readonly parent: string;
  readonly properties: readonly PropertyRow[];
}

const kind = (parent: string, text: string): ObjectKind => ({ parent, properties: propertyRows(text) });

/** By name. */
export const objectKinds: Readonly<Record<string, ObjectKind>> = {
  iothread: kind(
    "event-loop-base",
    `thread-pool-min:int=0 aio-max-batch:int=0 thread-pool-max:int=64 poll-max-ns:int=32768 poll-grow:int=0
     poll-shrink:int=0`,
  ),
  secret: kind(
    "secret_common",
    "iv:string keyid:string loaded:bool=true format:QCryptoSecretFormat=raw file:string data:string",
  ),
  "throttle-group": kind(
    "object",
    `limits:ThrottleLimits ${limitNames.map((name) => `x-${name}:int`).join(" ")}`,
  ),
  "tls-creds-x509": kind("tls-creds", `${tls} sanity-check:bool=true passwordid:string loaded:bool=true`),
  "tls-creds-psk": kind("tls-creds", `${tls} username:string loaded:bool=true`),
  "tls-creds-anon": kind("tls-creds", `${tls} loaded:bool=true`),
};

/** An object as the tree shows it. */
export function qomObject(graph: BlockGraph, options: ObjectOptions): QomObject {
  const type = options["qom-type"];
  const base = { type, properties: objectKinds[type]?.properties ?? [] };
  const given = options as unknown as Record<string, Json>;
  if (type === "throttle-group") return { ...base, ...throttleProperties(graph, options.id) };
  if (type === "secret")
    return {
      ...base,
      get: (name) => {
        if (name === "data") throw new CommandError("Property 'secret.data' is not readable");
        return given[name];
      },
    };
  if (type === "iothread") return { ...base, get: (name) => given[name], set: iothreadSetter(given) };
  return { ...base, get: (name) => given[name] };
}

function throttleProperties(graph: BlockGraph, id: string): Pick<QomObject, "get" | "set"> {
  const group = throttleGroupsOf(graph).get(id);
  assert(group, `no throttle group ${id}`);
  return {
    get: (name) =>
      name === "limits" ? { ...group.limits } : group.limits[name.slice(2) as keyof ThrottleLimits],
    set: (name, value) => {
      if (name !== "limits") throw new CommandError("Property cannot be set after initialization");
      group.configure(validate("ThrottleGroupProperties", { limits: value }).limits ?? {});
    },
  };
}

function iothreadSetter(values: Record<string, Json>): (name: string, value: Json) => void {
  return (name, value) => {
    if (typeof value !== "number")
      throw new CommandError(`Invalid parameter type for '${name}', expected: integer`);
    if (value < 0) throw new CommandError(`${name} value must be in range [0, 9223372036854775807]`);
    const next = { ...values, [name]: value };
    if (Number(next["thread-pool-min"] ?? 0) > Number(next["thread-pool-max"] ?? 64))
      throw new CommandError("bad thread-pool-min/thread-pool-max values");
    values[name] = value;
  };
}
