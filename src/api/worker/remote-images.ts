/**
 * Whole images of an engine in another thread: the library's functions of the same names, asked for over its port.
 *
 * Invariant: what a call tells on the way is heard before it resolves, and never after.
 */
import { CommandError } from "../../base/errors.ts";
import { abortable } from "../../base/signals.ts";
import type { CheckOptions, CheckReport } from "../check.ts";
import type { CompareOptions, CompareResult } from "../compare.ts";
import type { CallOptions } from "../node.ts";
import type { ConvertOptions, UnreadRange } from "../convert.ts";
import type { ImportImageOptions, ImportImageSpec } from "../import.ts";
import type { ResizeOptions } from "../resize.ts";
import type { OpenSpec } from "../specs.ts";
import type { ListImagesOptions, StoredImage } from "../stored.ts";
import type { ImageCalls } from "./calls.ts";
import { type PortCaller, type PortLike, dataOf } from "./port.ts";
import { RemoteDisk } from "./remote-disk.ts";

/** A disk of the engine: its handle, or its node's name. */
export type RemoteDiskRef = RemoteDisk | string;

type Listeners = Readonly<Record<string, ((...told: never[]) => void) | undefined>>;

function nameOf(disk: RemoteDiskRef): string {
  if (typeof disk === "string") return disk;
  if (disk instanceof RemoteDisk) return disk.name;
  throw new CommandError("Invalid parameter type for 'disk', expected: RemoteDisk or a node's name");
}

/** The calls. */
export class RemoteImages {
  readonly #caller: PortCaller<ImageCalls>;

  constructor(caller: PortCaller<ImageCalls>) {
    this.#caller = caller;
  }

  describe(name: string | URL, { signal }: CallOptions): Promise<OpenSpec> {
    return this.#call("describe", { name: String(name) }, { signal });
  }

  check(image: string | URL | OpenSpec, options: CheckOptions): Promise<CheckReport> {
    const { repair, signal, onMessage } = options;
    const args = { image: image instanceof URL ? image.href : image, repair };
    return this.#call("check", args, { signal, listeners: { onMessage } });
  }

  compare(a: RemoteDiskRef, b: RemoteDiskRef, options: CompareOptions): Promise<CompareResult> {
    const { signal, onProgress, ...rest } = options;
    const args = { nodes: [nameOf(a), nameOf(b)], options: rest };
    return this.#call("compare", args, { signal, listeners: { onProgress } });
  }

  convert(
    source: RemoteDiskRef | readonly RemoteDiskRef[],
    target: RemoteDiskRef,
    options: ConvertOptions,
  ): Promise<void> {
    const { signal, onProgress, salvage, ...rest } = options;
    const sources = (Array.isArray(source) ? source : [source]).map((one) => nameOf(one as RemoteDiskRef));
    const args = { sources, target: nameOf(target), options: rest, salvage: salvage !== undefined };
    return this.#call("convert", args, { signal, listeners: { onProgress, salvage } });
  }

  async resize(disk: RemoteDiskRef, bytes: number, { signal, ...rest }: ResizeOptions): Promise<void> {
    const length = await this.#call("resize", { node: nameOf(disk), bytes, options: rest }, { signal });
    if (disk instanceof RemoteDisk) disk.becomes(length);
  }

  importImage(blob: Blob, spec: ImportImageSpec, options: ImportImageOptions): Promise<void> {
    const { signal, onProgress, ...rest } = options;
    return this.#call("importImage", { blob, spec, options: rest }, { signal, listeners: { onProgress } });
  }

  listImages({ signal, driver }: ListImagesOptions): Promise<StoredImage[]> {
    return this.#call("listImages", { driver }, { signal });
  }

  async #call<N extends keyof ImageCalls>(
    method: N,
    args: ImageCalls[N]["args"],
    { signal, listeners = {} }: { signal?: AbortSignal | undefined; listeners?: Listeners },
  ): Promise<ImageCalls[N]["value"]> {
    signal?.throwIfAborted();
    if (Object.values(listeners).every((listener) => listener === undefined))
      return abortable(this.#caller.call(method, args, { signal }), signal);
    const { port1, port2 } = new MessageChannel();
    const over = heard(port1, listeners);
    try {
      const asked = this.#caller.call(method, { ...args, told: port2 }, { signal, transfer: [port2] });
      const value = await abortable(asked, signal);
      await Promise.race([over, this.#caller.ended]);
      return value;
    } finally {
      port1.close();
    }
  }
}

/** Calls the listeners by name; resolves when all is told. */
function heard(port: PortLike, listeners: Listeners): Promise<void> {
  return new Promise((resolve) => {
    port.addEventListener("message", (event) => {
      const message = dataOf(event) as { over: true } | { name: string; told: (UnreadRange | number)[] };
      if ("over" in message) resolve();
      else listeners[message.name]?.(...(message.told as never[]));
    });
    port.start?.();
  });
}
