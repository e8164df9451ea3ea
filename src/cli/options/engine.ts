/**
 * What options say of a verb's engine, away from the parser of command lines: programs that are loaded late read them too.
 *
 * --gate says which files an image's header may name: a policy over local files, and behind it, after commas, web servers
 * (`local,https://images.example.org`). --object makes secrets. Modes of caching are named as for qemu-img's -t and -T.
 */
import {
  denyGate,
  fileGate,
  type Gate,
  type GatePolicy,
  gatePolicies,
  urlGate,
} from "../../block/model/gate.ts";
import { nodeHost } from "../../platform/node/host.ts";
import type { CompatLevel } from "../../wire/qapi/index.ts";
import type { Engine, NodeEngineOptions } from "../../node.ts";
import { createEngine } from "../../node-engine.ts";
import { beLikeQemu } from "../like-qemu.ts";
import { Refusal } from "../refusal.ts";

/** What --gate says. */
export interface GateChoice {
  readonly policy: GatePolicy;
  /** Origins of web servers: `https://host:port`. */
  readonly origins: readonly string[];
}

/** Without --gate. */
export const defaultGate: GateChoice = { policy: "local", origins: [] };

/** Reads what stands behind --gate; undefined where it is neither a policy nor origins. */
export function readGate(text: string): GateChoice | undefined {
  const [first = "", ...rest] = text.split(",");
  const policy = gatePolicies.find((name) => name === first);
  const urls = policy === undefined ? [first, ...rest] : rest;
  if (!urls.every((url) => /^https?:\/\/[^/?#@]+\/?$/i.test(url) && URL.canParse(url))) return undefined;
  return { policy: policy ?? defaultGate.policy, origins: urls.map((url) => new URL(url).origin) };
}

/** The gate that was chosen; `io`: how it looks at files, as NodeHostOptions has it. */
export function gateOf({ policy, origins }: GateChoice, io?: "pool" | "in-turn"): Gate {
  const files = policy === "deny" ? denyGate : fileGate(policy, nodeHost(io && { io }));
  return origins.length === 0 ? files : urlGate(origins, files);
}

/** An engine of the program: it behaves as QEMU's own programs do where it stands in for one of them, or `compat` says so. */
export function programEngine(
  options: Omit<NodeEngineOptions, "gate" | "warnUnflushed">,
  gate: GateChoice,
  compat?: CompatLevel,
): Engine {
  const engine = createEngine({ ...options, gate: gateOf(gate, options.io), warnUnflushed: false });
  beLikeQemu(engine.graph, compat);
  return engine;
}

/** Makes the objects of the definitions (`secret,id=…,file=…` or JSON), in their order. Throws QapiError, CommandError. */
export async function addObjects(engine: Engine, definitions: readonly string[] = []): Promise<void> {
  if (definitions.length === 0) return;
  const { parseOption } = await import("../../wire/qapi/index.ts");
  for (const definition of definitions)
    await engine.objects.add(parseOption("ObjectOptions", definition, { impliedKey: "qom-type" }));
}

/** Caching, as BlockdevOptions has it. */
export interface CacheMode {
  direct: boolean;
  "no-flush": boolean;
}

const cacheModes: Readonly<Record<string, CacheMode>> = {
  none: { direct: true, "no-flush": false },
  off: { direct: true, "no-flush": false },
  directsync: { direct: true, "no-flush": false },
  writeback: { direct: false, "no-flush": false },
  writethrough: { direct: false, "no-flush": false },
  unsafe: { direct: false, "no-flush": true },
};

/** The meaning of `-t` or `-T`; `what` names the option in the refusal. */
export function cacheMode(text: string, what: string): CacheMode {
  const mode = Object.hasOwn(cacheModes, text) ? cacheModes[text] : undefined;
  if (!mode) throw new Refusal(`Invalid ${what} option: ${text}`);
  return mode;
}
