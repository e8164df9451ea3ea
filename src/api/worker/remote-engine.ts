/**
 * An engine in another thread with its QMP client. Invariant: when the other end goes, everything that is pending here
 * rejects with EIO, once and for all.
 */
import { asyncDispose } from "../../base/lease.ts";
import { QmpClient } from "../../server/monitor/index.ts";
import { type CallOptions, checkCall } from "../node.ts";
import type { CheckOptions, CheckReport } from "../check.ts";
import type { CompareOptions, CompareResult } from "../compare.ts";
import type { ConvertOptions } from "../convert.ts";
import type { ImportImageOptions, ImportImageSpec } from "../import.ts";
import { type ImageRef, isName } from "../named.ts";
import { checkArgument } from "../options.ts";
import type { ResizeOptions } from "../resize.ts";
import type { ListImagesOptions, StoredImage } from "../stored.ts";
import type { EngineCalls, ImageCalls } from "./calls.ts";
import type { RunControl } from "./guest.ts";
import { PortCaller, type PortLike } from "./port.ts";
import type { RemoteDisk, RemoteDiskOptions } from "./remote-disk.ts";
import { portConnection } from "./port-connection.ts";
import { type RemoteDiskRef, RemoteImages } from "./remote-images.ts";
import { WorkerEngine } from "./worker-engine.ts";

/** How an engine in a worker is reached. Made by connectEngine(), or connectWorker() of the browser entry. */
export class RemoteEngine extends WorkerEngine implements AsyncDisposable {
  /** Runs commands and hears events as over any other connection. */
  readonly qmp: QmpClient;
  readonly #images: RemoteImages;

  private constructor(caller: PortCaller<EngineCalls>, qmp: QmpClient) {
    super(caller);
    this.#images = new RemoteImages(caller as unknown as PortCaller<ImageCalls>);
    this.qmp = qmp;
    void caller.ended.then(() => qmp.close());
  }

  /** Waits for the other end's QMP greeting. Rejects with the signal's reason, or if the other end has gone. */
  static async connect(port: PortLike, options: CallOptions = {}): Promise<RemoteEngine> {
    checkCall(options);
    checkArgument("port", port, "Port");
    const { signal } = options;
    const caller = new PortCaller<EngineCalls>(port);
    const { port1, port2 } = new MessageChannel();
    const gone = caller.ended.then((reason) => Promise.reject(reason));
    try {
      caller.call("monitor", { port: port2 }, { transfer: [port2] }).catch(() => undefined);
      const greeted = QmpClient.connect(portConnection(port1), signal ? { signal } : {});
      return new RemoteEngine(caller, await Promise.race([greeted, gone]));
    } catch (error) {
      port1.close();
      caller.end(error as Error);
      throw error;
    }
  }

  /**
   * Opens a node as openNode() does: by a path or URL, whose format is found, or by a description, in which a File or Blob crosses. It is
   * closed with the disk.
   */
  override async open(image: ImageRef, options: RemoteDiskOptions & CallOptions = {}): Promise<RemoteDisk> {
    if (!isName(image)) return super.open(image, options);
    return super.open(await this.#images.describe(image, options), options);
  }

  /** Checks an image, and repairs it if asked, as check() does: by its name, or a description in which a File or Blob crosses. */
  async check(image: ImageRef, options: CheckOptions = {}): Promise<CheckReport> {
    return this.#images.check(image, options);
  }

  /** Compares two disks, as compare() does; a failure of one is a BlockError with its errno and place. */
  async compare(a: RemoteDiskRef, b: RemoteDiskRef, options: CompareOptions = {}): Promise<CompareResult> {
    return this.#images.compare(a, b, options);
  }

  /** Copies a disk, or several end to end, into an open one, as convert() does; a failure is a BlockError with its errno and place. */
  async convert(
    source: RemoteDiskRef | readonly RemoteDiskRef[],
    target: RemoteDiskRef,
    options: ConvertOptions = {},
  ): Promise<void> {
    return this.#images.convert(source, target, options);
  }

  /** Sets a disk's length, bytes, as resize() does. */
  async resize(disk: RemoteDiskRef, bytes: number, options: ResizeOptions = {}): Promise<void> {
    return this.#images.resize(disk, bytes, options);
  }

  /** Copies the disk in a Blob or File into a new image, as importImage() does. */
  async importImage(blob: Blob, spec: ImportImageSpec, options: ImportImageOptions = {}): Promise<void> {
    return this.#images.importImage(blob, spec, options);
  }

  /** The images in the stores of the other end, as listImages() has them. */
  async listImages(options: ListImagesOptions = {}): Promise<StoredImage[]> {
    return this.#images.listImages(options);
  }

  async [asyncDispose](): Promise<void> {
    await this.close();
  }

  /** By QMP: its events come in order with those that its user listens to. */
  protected override runControl(): RunControl {
    const { qmp } = this;
    return {
      follow(each) {
        qmp.on("STOP", () => each(false));
        qmp.on("RESUME", () => each(true));
      },
      running: async () => (await qmp.execute("query-status")).running,
      stop: () => qmp.execute("stop"),
      cont: () => qmp.execute("cont"),
    };
  }
}

/** Reaches the engine that serveEngine() serves at the other end of `port`. */
export function connectEngine(port: PortLike, options: CallOptions = {}): Promise<RemoteEngine> {
  return RemoteEngine.connect(port, options);
}
