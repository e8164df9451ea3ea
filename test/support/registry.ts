// A registry of container images for tests, with faults on demand: manifests and blobs, read by ranges, for whoever has the token.
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** The name of some bytes. */
export function digestOf(bytes: Uint8Array | string): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** A request, as a fault sees it. */
export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly authorization: string;
}

/** What is answered instead; undefined: what is right. */
export interface Wrong {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body?: string;
  readonly hang?: boolean;
  readonly cut?: boolean;
  /** The right answer, but so many bytes of its body, and then the end. */
  readonly only?: number;
}

/** A running registry. */
export class TestRegistry {
  /** By digest, or by `REPOSITORY/TAG` (manifests). */
  readonly content = new Map<string, { bytes: Buffer; type: string }>();
  readonly asked: Asked[] = [];
  fault: (asked: Asked) => Wrong | undefined = () => undefined;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => this.#serve(request, response));
  }

  static async start(): Promise<TestRegistry> {
    const registry = new TestRegistry();
    await new Promise<void>((resolve) => registry.#server.listen(0, "127.0.0.1", resolve));
    return registry;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Adds an image of layers, the lowest first; `told`: of the last one's descriptor, what is not so. */
  image(tag: string, layers: readonly { bytes: Buffer; type: string }[], told: object = {}): string {
    const descriptors = layers.map(({ bytes, type }, i) => {
      this.content.set(digestOf(bytes), { bytes, type });
      const right = { mediaType: type, digest: digestOf(bytes), size: bytes.byteLength };
      return i === layers.length - 1 ? { ...right, ...told } : right;
    });
    return this.manifest(tag, { schemaVersion: 2, layers: descriptors });
  }

  manifest(tag: string, manifest: object): string {
    const bytes = Buffer.from(JSON.stringify(manifest));
    const stored = { bytes, type: "application/vnd.oci.image.manifest.v1+json" };
    this.content.set(`disks/${tag}`, stored).set(digestOf(bytes), stored);
    return digestOf(bytes);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    request.resume();
    const asked = {
      ...{ method: request.method!, path: request.url! },
      authorization: request.headers.authorization ?? "",
    };
    this.asked.push(asked);
    const wrong = this.fault(asked);
    if (wrong?.hang) return;
    if (wrong?.cut) return void request.socket.destroy();
    if (wrong && wrong.only === undefined)
      return void response.writeHead(wrong.status ?? 503, wrong.headers).end(wrong.body ?? "");
    const [, kind, name = ""] = /^\/v2\/disks\/(manifests|blobs)\/(.+)$/.exec(asked.path) ?? [];
    const found = this.content.get(kind === "blobs" || name.startsWith("sha256:") ? name : `disks/${name}`);
    if (!found) return void response.writeHead(404).end();
    const { bytes, type } = found;
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
    const [from, to] = [Number(first ?? 0), Math.min(bytes.byteLength, Number(last ?? Infinity) + 1)];
    const range =
      first === undefined ? {} : { "Content-Range": `bytes ${from}-${to - 1}/${bytes.byteLength}` };
    response.writeHead(first === undefined ? 200 : 206, {
      ...{ "Content-Type": type, "Content-Length": to - from, ...range },
    });
    if (wrong?.only === undefined) return void response.end(bytes.subarray(from, to));
    response.write(bytes.subarray(from, from + wrong.only), () => request.socket.destroy());
  }
}
