/**
 * --gate: which files an image's header may name. A policy over local files, and behind it, after commas, web servers:
 * `local,https://images.example.org`.
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

/** The gate that was chosen. */
export function gateOf({ policy, origins }: GateChoice): Gate {
  const files = policy === "deny" ? denyGate : fileGate(policy, nodeHost());
  return origins.length === 0 ? files : urlGate(origins, files);
}
