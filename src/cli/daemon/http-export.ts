/**
 * `--export type=http,…` of the daemon: a node for browsers and curl. QEMU has no such export, so QMP's table does not know it.
 */
import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { Node } from "../../api/node.ts";
import { serveHttp } from "../../api/serve-http.ts";
import { CommandError } from "../../base/errors.ts";
import { layers } from "../../block/model/chain.ts";
import { imageFilename } from "../../block/model/filename.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { Engine } from "../../node.ts";
import { type JsonObject, parseKeyval } from "../../wire/qapi/index.ts";

const OPTIONS = ["type", "id", "node-name", "name", "addr", "origin"];

/** The words of an option that describes such an export; undefined where it is another one. */
export function httpExportOf(value: string): JsonObject | undefined {
  const options = parseKeyval(value, "type");
  return options["type"] === "http" ? options : undefined;
}

/** Serves the node. Throws CommandError, BlockError. */
export async function addHttpExport(
  engine: Engine,
  options: JsonObject,
  { allowPlainTcp }: { allowPlainTcp: boolean },
): Promise<string> {
  const unknown = Object.keys(options).find((name) => !OPTIONS.includes(name));
  if (unknown !== undefined) throw new CommandError(`Parameter '${unknown}' is unexpected`);
  const id = word(options, "id");
  const addr = (options["addr"] ?? {}) as JsonObject;
  const [host, port] = [addr["host"] ?? "127.0.0.1", addr["port"]].map(String);
  if (addr["port"] === undefined) throw new CommandError("Parameter 'addr.port' is missing");
  const found = engine.graph.nodeOrDevice({ node: word(options, "node-name") });
  const node = await Node.attach(engine, found);
  try {
    const { url } = await serveHttp(node, {
      address: `${host}:${port}`,
      id,
      name: options["name"] === undefined ? found.name : word(options, "name"),
      etag: await tagOf(found),
      allowPlainTcp,
      ...(options["origin"] === undefined ? {} : { origin: word(options, "origin") }),
    });
    return url;
  } finally {
    await node.close();
  }
}

function word(options: JsonObject, name: string): string {
  const value = options[name];
  if (typeof value !== "string" || value === "") throw new CommandError(`Parameter '${name}' is missing`);
  return value;
}

/** The same for the same files, as far as their dates, sizes and numbers tell. */
async function tagOf(node: BlockNode): Promise<string> {
  const hash = createHash("sha256").update(String(node.length));
  for (const layer of layers(node)) {
    const facts = await stat(imageFilename(layer), { bigint: true }).catch(() => undefined);
    hash.update(
      facts ? `${layer.type.name} ${facts.dev} ${facts.ino} ${facts.size} ${facts.mtimeNs}` : layer.name,
    );
  }
  return hash.digest("hex").slice(0, 32);
}
