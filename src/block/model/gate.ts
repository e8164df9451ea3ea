/**
 * The open gate: asked before any file that an image names (backing file, data file) is opened. The library's default
 * denies everything; entries choose another policy. Source: design rule "never guess for an authority decision".
 */
import type { Host } from "../../base/host.ts";
import type { NodeSpec } from "./spec.ts";

/** What an image asks to have opened. */
export interface GateRequest {
  kind: "backing" | "data-file";
  /** The file that holds the name, as it was opened; empty if it has none. */
  image: string;
  /** The name as the image spells it. */
  name: string;
  /** The format that the image names, if it does. */
  format: string | undefined;
}

/** The spec to open, or why not. */
export type GateAnswer = { allow: NodeSpec } | { refuse: string };

/** Decides on one request. */
export type Gate = (request: GateRequest) => Promise<GateAnswer>;

/** Policies that entries offer by name. */
export type GatePolicy = "deny" | "same-dir" | "local" | "all";

/** Refuses everything. */
export const denyGate: Gate = (request) =>
  Promise.resolve({
    refuse: `the image's ${request.kind} name '${request.name}' was not opened: no gate allows it`,
  });

/**
 * The gate of a policy over local files. `local`: regular files named by a path. `same-dir`: those in the image's own
 * directory, no symlink tricks by `..`. `all`: also devices. Names with a protocol (`json:`, `nbd:` …: a colon
 * before the first slash, as QEMU reads them) are refused by all.
 */
export function fileGate(policy: GatePolicy, host: Host): Gate {
  if (policy === "deny") return denyGate;
  return async (request) => {
    const refuse = (why: string): GateAnswer => ({
      refuse: `${request.kind} name '${request.name}' refused: ${why}`,
    });
    if (request.name.includes("\0")) return refuse("it holds a NUL byte");
    if (/^[^/\\]*:/.test(request.name))
      return refuse("names with a protocol are not opened out of an image's header");
    if (policy === "same-dir" && /[/\\]/.test(request.name)) return refuse("it leaves the image's directory");
    const filename = host.files.resolve(request.image, request.name);
    if (policy !== "all") {
      const info = await host.files.info(filename).catch(() => undefined);
      if (info && info.kind !== "file") return refuse("it is no regular file");
    }
    const file: NodeSpec = { driver: "file", filename };
    return { allow: request.format === undefined ? { driver: "", file } : { driver: request.format, file } };
  };
}

/**
 * Lets images name backing files on web servers of these origins (`https://host:port`), and asks `otherwise` about every
 * name that is no URL of http or https.
 */
export function urlGate(origins: readonly string[], otherwise: Gate = denyGate): Gate {
  const allowed = new Set(origins.map((origin) => new URL(origin).origin));
  return async (request) => {
    if (!/^https?:/i.test(request.name)) return otherwise(request);
    const refuse = (why: string): GateAnswer => ({
      refuse: `${request.kind} name '${request.name}' refused: ${why}`,
    });
    if (!URL.canParse(request.name)) return refuse("it is no URL");
    const url = new URL(request.name);
    if (request.kind !== "backing") return refuse("only backing files may lie on a web server");
    if (!allowed.has(url.origin)) return refuse(`its origin ${url.origin} is not allowed`);
    const file: NodeSpec = { driver: url.protocol === "https:" ? "https" : "http", url: url.href };
    return { allow: { driver: request.format ?? "", file } };
  };
}
