/**
 * host_device, host_cdrom: a block or character device of the host, named by the user alone (no image's header leads to one).
 * Invariant: its length is the device's and never changes from here; zeroes are written, and nothing is unmapped.
 * Source: QAPI BlockdevOptionsFile; behaviour and words of QEMU 7.2.
 */
import { BlockError, blockError } from "../../base/errors.ts";
import type { BlockStatus, DriverType, NodeView, TruncateOptions } from "../../block/model/contract.ts";
import { FileDriver, type FileInit, openFile, type Opens, withoutProtocol } from "./file.ts";

class DeviceDriver extends FileDriver {
  readonly #node: NodeView;

  constructor(init: FileInit) {
    super(init);
    this.#node = init.node;
  }

  /** The request path writes zeroes instead. */
  override pwriteZeroes(): Promise<void> {
    return Promise.reject(blockError("ENOTSUP", "pwriteZeroes"));
  }

  override pdiscard(): Promise<void> {
    return Promise.reject(blockError("ENOTSUP", "pdiscard"));
  }

  /** Nobody knows what a device has holes in. */
  override blockStatus(offset: number, bytes: number): BlockStatus {
    return { bytes, data: true, zero: false, allocated: true, map: { node: this.#node, offset } };
  }

  override truncate(size: number, { exact, preallocation }: TruncateOptions): Promise<void> {
    const refuse = (code: "ENOTSUP" | "EINVAL", message: string): Promise<void> =>
      Promise.reject(new BlockError({ code, op: "truncate", node: this.#node.name, message }));
    if (preallocation !== "off")
      return refuse("ENOTSUP", `Preallocation mode '${preallocation}' unsupported for this non-regular file`);
    if (exact && size !== this.length()) return refuse("ENOTSUP", "Cannot resize device files");
    if (size > this.length()) return refuse("EINVAL", "Cannot grow device files");
    return Promise.resolve();
  }

  override hasZeroInit(): boolean {
    return false;
  }
}

function deviceType(name: string): DriverType {
  const opens: Opens = {
    driver: name,
    kinds: ["block-device", "character-device"],
    what: "either a character or block device",
    make: (init) => new DeviceDriver(init),
  };
  return {
    name,
    kind: "protocol",
    parseName: (text) => ({ options: { filename: withoutProtocol(text, name) } }),
    open: (context, spec) => openFile(context, spec, opens),
  };
}

/** Options as those of `file`. Errors of open: as there, EINVAL for what is no device. */
export const hostDevice: DriverType = deviceType("host_device");

/** The same for drives whose medium can be taken out; this is not followed. */
export const hostCdrom: DriverType = deviceType("host_cdrom");
