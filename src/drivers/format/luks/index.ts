/**
 * luks: a LUKS1 volume. The header and its key slots come first, then the disk's sectors, each encrypted by its number; or the
 * header is in a child of its own (detached), as QEMU has it since 9.0.
 * The cryptography is in src/crypto. Source: LUKS1 on-disk format specification 1.2.3; behaviour and words of QEMU 7.2.
 */
import { BlockError, ImageError } from "../../../base/errors.ts";
import { MiB, SECTOR_SIZE } from "../../../base/limits.ts";
import { alignUp } from "../../../base/ranges.ts";
import type { Edge } from "../../../block/model/contract.ts";
import {
  type AmendContext,
  type AmendOptions,
  type BlockDriver,
  type BlockLimits,
  type DriverInfo,
  type DriverType,
  type FormatSpecific,
  type NodeSpec,
  type OpenContext,
  type Permissions,
  type RequestFlags,
  Role,
  type TruncateOptions,
} from "../../../block/model/contract.ts";
import { headerStorage } from "../../../block/model/header-storage.ts";
import { filterPermissions, Perm } from "../../../block/model/permissions.ts";
import { childOption, stringOption } from "../../../block/model/options.ts";
import { isLuks1 } from "../../../crypto/luks-header.ts";
import { LuksVolume } from "../../../crypto/luks.ts";
import type { Secrets } from "../../../crypto/secrets.ts";
import { checkCreate, create } from "./create.ts";
import { amendOptions, createOptions, measure } from "./options.ts";

/** What is encrypted at once: bounds the copy that a write makes. */
const MAX_TRANSFER = MiB;

/** The child that holds a detached header. */
const HEADER = "header";
/** What is taken of it, whatever parents ask: it is read, and others may do what they like. */
const readHeader: Permissions = { perm: Perm.consistentRead, shared: Perm.all };

class LuksDriver implements BlockDriver {
  readonly #file: Edge;
  readonly #volume: LuksVolume;
  readonly #secrets: Secrets;
  readonly #reads: boolean;
  readonly #isDetached: boolean;
  amends = 0;

  /** `reads`: what is stored is wanted, and not only what the header says of it. */
  constructor(init: {
    file: Edge;
    volume: LuksVolume;
    secrets: Secrets;
    reads: boolean;
    isDetached: boolean;
  }) {
    this.#isDetached = init.isDetached;
    this.#reads = init.reads;
    this.#file = init.file;
    this.#volume = init.volume;
    this.#secrets = init.secrets;
  }

  /** The last sector may lie in the file in part. */
  length(): number {
    return Math.max(0, alignUp(this.#file.length - this.#volume.payloadOffset, SECTOR_SIZE));
  }

  limits(): Partial<BlockLimits> {
    return { requestAlignment: SECTOR_SIZE, maxTransfer: MAX_TRANSFER };
  }

  async pread(offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
    const { cipher } = this.#volume;
    await this.#file.pread(this.#volume.payloadOffset + offset, buffer, flags);
    cipher.decrypt(offset / SECTOR_SIZE, buffer, buffer);
  }

  async pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
    // The caller's bytes must stay as they are.
    const stored = new Uint8Array(buffer.byteLength);
    this.#volume.cipher.encrypt(offset / SECTOR_SIZE, buffer, stored);
    await this.#file.pwrite(this.#volume.payloadOffset + offset, stored, flags);
  }

  async truncate(size: number, options: TruncateOptions): Promise<void> {
    await this.#file.truncate(this.#volume.payloadOffset + size, options);
  }

  amend(options: AmendOptions, { force = false }: AmendContext): Promise<void> {
    return this.#volume.amend({ options, force, secrets: this.#secrets });
  }

  /** As a filter, since the header stays as it is, but for amendments: these want it for themselves. Whoever reads keeps them away. */
  childPermissions(child: Edge, parent: Permissions): Permissions {
    const isHeader = child.name === HEADER;
    const { perm, shared } = isHeader ? readHeader : filterPermissions(parent);
    const own = this.#reads ? Perm.consistentRead : 0;
    if (this.amends === 0 || isHeader !== this.#isDetached) return { perm: perm | own, shared };
    return { perm: perm | own | Perm.write, shared: shared & ~(Perm.consistentRead | Perm.write) };
  }

  getInfo(): DriverInfo {
    return this.#file.node.driver.getInfo?.() ?? { clusterSize: 0 };
  }

  encrypted(): boolean {
    return true;
  }

  formatSpecific(): FormatSpecific {
    return { type: "luks", data: this.#volume.info() };
  }

  /** What was never written decrypts to noise. */
  hasZeroInit(): boolean {
    return false;
  }
}

async function open(context: OpenContext, spec: NodeSpec): Promise<BlockDriver> {
  const { secrets } = context.graph;
  const keySecret = stringOption(spec, "key-secret");
  // As the storage of data: two machines may open one volume, and the header is written by amendments only.
  const role = Role.data | Role.primary;
  const file = await context.openChild(childOption(spec, "file"), "file", role);
  const given = childOption(spec, HEADER);
  const header = given === undefined ? undefined : await context.openChild(given, HEADER, Role.metadata);
  const volume = await openVolume(context, header ?? file, header !== undefined);
  if (!context.metadataOnly) await volume.unlock(secrets, keySecret);
  if (file.length < volume.payloadOffset) {
    const message = "Could not refresh total sector count: Input/output error";
    throw new ImageError({ structure: "LUKS header", field: "payload-offset", code: "EIO", message });
  }
  return new LuksDriver({
    file,
    volume,
    secrets,
    reads: !context.metadataOnly,
    isDetached: header !== undefined,
  });
}

async function openVolume({ host }: OpenContext, file: Edge, isDetached: boolean): Promise<LuksVolume> {
  try {
    return await LuksVolume.open(host, headerStorage(file), isDetached);
  } catch (error) {
    if (!(error instanceof BlockError) || error.op !== "pread") throw error;
    const message = `Unable to read LUKS header: ${error.message}`;
    throw new BlockError({ code: error.code, op: "open", message, cause: error });
  }
}

/** Options: `file`, `key-secret` (the id of the passphrase's secret), `header` (where the header is, if not in `file`). */
export const luks: DriverType = {
  name: "luks",
  kind: "format",
  namedBy: ["key-secret"],
  createOptions,
  amendOptions,
  open,
  create,
  checkCreate: (context, options) => void checkCreate(context, options),
  measure,
  probe: (head) => (isLuks1(head) ? 100 : 0),
};
