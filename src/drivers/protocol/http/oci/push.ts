/**
 * Making images in a registry: KubeVirt's containerDisk, one plain tar layer with /disk/NAME, so that others pull it, and the oci driver reads
 * it by ranges. The image is made in a local file first, since a layer is sent from its first byte to its last.
 *
 * Invariant: the tag changes last, when all that its manifest names is there. Source: OCI distribution specification, pushing in chunks.
 */
import { blockError, errnoOf } from "../../../../base/errors.ts";
import type { HostFile, HttpResponse } from "../../../../base/host.ts";
import type { GraphView, NodeSpec } from "../../../../block/model/contract.ts";
import type { StoredDraft } from "../../../../block/model/stores.ts";
import { discardBody } from "../body.ts";
import { hexDigest, inHex } from "./digest.ts";
import { type Descriptor, layersOf, MANIFEST_TYPE } from "./manifest.ts";
import { type OciOptions, ociOptions } from "./options.ts";
import { Registry } from "./registry.ts";
import { BLOCK, tarHeader } from "./tar.ts";

const LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar";
const CONFIG_TYPE = "application/vnd.oci.image.config.v1+json";
/** Bytes that are sent at a time. */
const PIECE_BYTES = 8 * 2 ** 20;

async function withRegistry<T>(
  graph: GraphView,
  file: NodeSpec,
  body: (registry: Registry, options: OciOptions) => Promise<T>,
): Promise<T> {
  const options = ociOptions(file, graph);
  const registry = new Registry(graph.host, options, { pushes: true });
  try {
    return await body(registry, options);
  } finally {
    registry.close();
  }
}

/** Whether there is an image of that name. */
export function imageExists(graph: GraphView, file: NodeSpec): Promise<boolean> {
  return withRegistry(graph, file, async (registry, options) => {
    try {
      await layersOf(registry, options);
      return true;
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return false;
      throw error;
    }
  });
}

/** Begins an image: a local file, which is pushed when it is whole. */
export async function draftOf(graph: GraphView, file: NodeSpec): Promise<StoredDraft> {
  const { host } = graph;
  const { image } = ociOptions(file, graph);
  if (image.digest !== undefined)
    throw blockError("EINVAL", "create", "an image that is made gets its digest: give a tag alone");
  const folder = host.environment?.("TMPDIR") ?? "/tmp";
  const random = Array.from({ length: 4 }, () => host.random.below(2 ** 32).toString(36)).join("");
  const filename = `${folder}/blockwright-push-${random}`;
  await host.files.create(filename, { size: 0, exclusive: true });
  const discard = async (): Promise<void> => {
    await host.files.remove(filename);
  };
  return {
    file: { driver: "file", filename },
    name: filename,
    discard,
    publish: async () => {
      await withRegistry(graph, file, (registry, options) => push({ graph, registry, options }, filename));
      await discard();
    },
  };
}

interface Pushing {
  readonly graph: GraphView;
  readonly registry: Registry;
  readonly options: OciOptions;
}

async function push(pushing: Pushing, filename: string): Promise<void> {
  const { graph, registry, options } = pushing;
  const disk = await graph.host.files.open(filename, { write: false });
  try {
    const layer = await pushLayer(pushing, disk);
    const [os, architecture] = options.platform.split("/");
    const rootfs = { type: "layers", diff_ids: [layer.digest] };
    const config = await pushBytes(registry, { architecture, os, config: {}, rootfs }, CONFIG_TYPE);
    const manifest = { schemaVersion: 2, mediaType: MANIFEST_TYPE, config, layers: [layer] };
    await registry.request(
      {
        ...{ method: "PUT", path: `manifests/${options.image.tag}`, fine: [201] },
        headers: { "Content-Type": MANIFEST_TYPE },
        body: new TextEncoder().encode(JSON.stringify(manifest)),
      },
      discardBody,
    );
  } finally {
    await disk.close();
  }
}

/** Where an upload goes on. */
function locationOf(response: HttpResponse): string {
  const location = response.headers.get("location");
  if (location !== null) return location;
  throw blockError("EIO", "create", "the registry does not tell where an upload goes on");
}

async function beginUpload(registry: Registry): Promise<string> {
  return registry.request({ method: "POST", path: "blobs/uploads/", fine: [202] }, async (response) => {
    await discardBody(response);
    return locationOf(response);
  });
}

function withDigest(location: string, digest: string): string {
  return `${location}${location.includes("?") ? "&" : "?"}digest=${encodeURIComponent(digest)}`;
}

async function endUpload(registry: Registry, location: string, digest: string): Promise<void> {
  const headers = { "Content-Length": "0" };
  await registry.request(
    { method: "PUT", path: withDigest(location, digest), headers, fine: [201] },
    discardBody,
  );
}

async function pushBytes(registry: Registry, value: object, mediaType: string): Promise<Descriptor> {
  const body = new TextEncoder().encode(JSON.stringify(value));
  const digest = await hexDigest(body);
  const location = await beginUpload(registry);
  const headers = { "Content-Type": "application/octet-stream" };
  await registry.request(
    { method: "PUT", path: withDigest(location, digest), headers, body, fine: [201] },
    discardBody,
  );
  return { mediaType, digest, size: body.byteLength };
}

/** The archive around a disk, in pieces that are not to be kept. */
async function* archive(disk: HostFile, name: string): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const size = await disk.size();
  const folder = tarHeader("disk/", 0);
  const head = new Uint8Array(2 * BLOCK);
  head.set(folder, 0);
  head.set(tarHeader(`disk/${name}`, size), BLOCK);
  yield head;
  for (let at = 0; at < size; at += PIECE_BYTES) {
    const piece = new Uint8Array(Math.min(PIECE_BYTES, size - at));
    const count = await disk.read(piece, at);
    if (count < piece.byteLength) throw blockError("EIO", "create", "the image has become shorter");
    yield piece;
  }
  // The member is filled up, and two blocks end the archive.
  yield new Uint8Array(((BLOCK - (size % BLOCK)) % BLOCK) + 2 * BLOCK);
}

/** Sends the layer; what is sent is hashed on the way. */
async function pushLayer({ graph, registry, options }: Pushing, disk: HostFile): Promise<Descriptor> {
  const hasher = (await graph.host.crypto?.())?.hasher?.("sha256");
  if (!hasher) throw blockError("ENOTSUP", "create", "This platform can't hash what is pushed");
  const name = options.path?.replace(/^disk\//, "") ?? "disk.img";
  if (!/^[\w.-]{1,80}$/.test(name))
    throw blockError("EINVAL", "create", "Parameter 'path' of an image that is made is a name below disk/");
  let location = await beginUpload(registry);
  let sent = 0;
  for await (const piece of archive(disk, name)) {
    hasher.update(piece);
    const range = `${sent}-${sent + piece.byteLength - 1}`;
    const headers = { "Content-Type": "application/octet-stream", "Content-Range": range };
    const request = { method: "PATCH", path: location, headers, body: piece, fine: [202, 416] } as const;
    location = await registry.request(request, async (response) => {
      await discardBody(response);
      return response.status === 416
        ? goOn(registry, location, sent + piece.byteLength)
        : locationOf(response);
    });
    sent += piece.byteLength;
  }
  const digest = inHex(hasher.digest());
  await endUpload(registry, location, digest);
  return { mediaType: LAYER_TYPE, digest, size: sent };
}

/** After a try whose answer was lost: the registry tells how much it has. */
function goOn(registry: Registry, location: string, expected: number): Promise<string> {
  return registry.request({ method: "GET", path: location, fine: [204] }, async (response) => {
    await discardBody(response);
    if (response.headers.get("range") === `0-${expected - 1}`) return locationOf(response);
    throw blockError("EIO", "create", "the registry has lost a part of the upload");
  });
}
