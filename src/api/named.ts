/**
 * Images by a name: a path or a URL, as people have them. The storage is what the name says, the format what its first bytes say;
 * a disk that is taken for raw since nothing else claims it is guarded as QEMU guards it (block/graph/probe.ts).
 *
 * Invariant: only what the caller wrote is read as a name. Where there are no files (a page), a path is a URL relative to the page.
 */
import { CommandError } from "../base/errors.ts";
import { probeFormat } from "../block/graph/probe.ts";
import { storageOfName } from "../block/model/options.ts";
import { protocolPrefix } from "../block/model/gate.ts";
import type { NodeSpec } from "../block/model/spec.ts";
import type { Engine } from "../machine/engine.ts";
import { http } from "./builders.ts";
import { releaseIdle } from "./node.ts";
import type { OpenSpec } from "./specs.ts";

/** An image: a path or URL, or its description. */
export type ImageRef = string | URL | OpenSpec;

/** Whether an image is given by its name. */
export function isName(image: unknown): image is string | URL {
  return typeof image === "string" || image instanceof URL;
}

/** The description of the image that a name leads to. Throws CommandError for no name, BlockError where it can't be opened. */
export async function describeImage(engine: Engine, name: string | URL): Promise<OpenSpec> {
  const file = await describeStorage(engine, name);
  await releaseIdle(engine);
  const found = await probeFormat(engine.graph, file as NodeSpec);
  const isRemote = "url" in file ? { "read-only": true } : {};
  return { ...isRemote, ...found, file } as unknown as OpenSpec;
}

/** The description of the storage that a name leads to. */
export async function describeStorage({ graph }: Engine, name: string | URL): Promise<OpenSpec> {
  const text = name instanceof URL ? nameOfUrl(name) : name;
  if (text === "") throw new CommandError("An image's name is empty");
  const drivers = new Map([...graph.drivers].map((type) => [type.name, type]));
  const isDrive = /^[a-z]:[\\/]/i.test(text);
  const protocol = isDrive ? "" : protocolPrefix(text).slice(0, -1).toLowerCase();
  if (protocol === "http" || protocol === "https") return http(text);
  if (protocol.startsWith("json:")) throw new CommandError("Descriptions are objects here: no 'json:'");
  if (protocol !== "" && protocol !== "file") return ofProtocol(graph, protocol, text);
  if (!drivers.has("file")) return ofPage(text);
  const named = isDrive ? undefined : drivers.get("file")?.parseName?.(text).options?.["filename"];
  const filename = typeof named === "string" ? named : text;
  const kind = await graph.host.files.info(filename).then(
    (info) => info.kind,
    () => "file",
  );
  const isDevice = kind === "block-device" || kind === "character-device";
  return { driver: isDevice && drivers.has("host_device") ? "host_device" : "file", filename };
}

/** What a name of a protocol says to the driver that reads it. */
function ofProtocol(graph: Engine["graph"], protocol: string, name: string): OpenSpec {
  const storage = storageOfName(graph, protocol, name);
  if (!storage) throw new CommandError(`Unknown protocol '${protocol}'`, { code: "ENOTSUP" });
  return storage as unknown as OpenSpec;
}

/** A URL of a file is its path; any other is its text. */
function nameOfUrl(url: URL): string {
  if (url.protocol !== "file:") return url.href;
  const path = decodeURIComponent(url.pathname);
  return /^\/[a-z]:\//i.test(path) ? path.slice(1) : path;
}

/** Where there are no files a name is a URL, relative to the page or worker. */
function ofPage(text: string): OpenSpec {
  const { location } = globalThis as { location?: { href?: string } };
  if (!URL.canParse(text, location?.href))
    throw new CommandError(`There are no files here, and '${text}' is no URL`);
  return http(new URL(text, location?.href));
}
