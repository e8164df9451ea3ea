/**
 * A disk on an NBD server: the driver's hooks over a link. What the export can is what its flags say; its length never changes.
 * Source: behaviour of QEMU 7.2's client.
 */
import { BlockError, blockError } from "../../../base/errors.ts";
import { SECTOR_SIZE, limits } from "../../../base/limits.ts";
import { alignDown, alignUp } from "../../../base/ranges.ts";
import {
  type BlockDriver,
  type BlockLimits,
  type BlockStatus,
  type NodeView,
  Req,
  type RequestFlags,
  type TruncateOptions,
  type Unanswered,
} from "../../../block/model/contract.ts";
import { allocation, command, commandFlag, exportFlag } from "../../../wire/nbd/constants.ts";
import type { StatusExtent } from "../../../wire/nbd/transmission.ts";
import type { Link } from "./link.ts";
import type { NbdRequest } from "./session.ts";

/** Bytes of one request without data, at most: below 2^31, as QEMU. */
const MAX_PLAIN_BYTES = 2 ** 31 - 1;

/** An open export. */
export class NbdDriver implements BlockDriver {
  readonly #node: NodeView;
  readonly #link: Link;
  readonly #size: number;
  readonly #flags: number;
  readonly #minimum: number;

  constructor(node: NodeView, link: Link) {
    this.#node = node;
    this.#link = link;
    const { size, flags, blockSizes } = link.agreement;
    this.#size = size;
    this.#flags = flags;
    this.#minimum = blockSizes?.minimum ?? (size % SECTOR_SIZE === 0 ? SECTOR_SIZE : 1);
  }

  /** In whole sectors, as QEMU has it; what the last one lacks reads as zeroes. */
  length(): number {
    return alignUp(this.#size, SECTOR_SIZE);
  }

  limits(): Partial<BlockLimits> {
    const { blockSizes } = this.#link.agreement;
    const most = Math.min(limits.nbdMaxPayloadBytes, blockSizes?.maximum ?? limits.nbdMaxPayloadBytes);
    const maxTransfer = Math.max(this.#minimum, alignDown(most, this.#minimum));
    const optTransfer = Math.min(blockSizes?.preferred ?? 0, maxTransfer);
    const plain = alignDown(MAX_PLAIN_BYTES, this.#minimum);
    return {
      requestAlignment: this.#minimum,
      maxTransfer,
      optTransfer,
      maxPwriteZeroes: maxTransfer,
      maxPdiscard: plain,
    };
  }

  async pread(offset: number, buffer: Uint8Array): Promise<void> {
    const within = Math.max(0, Math.min(buffer.byteLength, this.#size - offset));
    if (within < buffer.byteLength) buffer.fill(0, within);
    if (within === 0) return;
    const into = within === buffer.byteLength ? buffer : buffer.subarray(0, within);
    await this.#request("pread", { type: command.read, flags: 0, offset, length: within, buffer: into });
  }

  async pwrite(offset: number, buffer: Uint8Array): Promise<void> {
    const length = buffer.byteLength;
    await this.#request("pwrite", { type: command.write, flags: 0, offset, length, payload: buffer });
  }

  async pwriteZeroes(offset: number, bytes: number, wanted: RequestFlags): Promise<void> {
    if (!this.#has(exportFlag.sendWriteZeroes)) throw blockError("ENOTSUP", "pwriteZeroes");
    let flags = wanted & Req.mayUnmap ? 0 : commandFlag.noHole;
    if (wanted & Req.noFallback) {
      if (!this.#has(exportFlag.sendFastZero)) throw blockError("ENOTSUP", "pwriteZeroes");
      flags |= commandFlag.fastZero;
    }
    await this.#request("pwriteZeroes", { type: command.writeZeroes, flags, offset, length: bytes });
  }

  async pdiscard(offset: number, bytes: number): Promise<void> {
    const length = Math.min(bytes, this.#size - offset);
    if (!this.#has(exportFlag.sendTrim) || length <= 0) return;
    await this.#request("pdiscard", { type: command.trim, flags: 0, offset, length });
  }

  async flush(): Promise<void> {
    if (!this.#has(exportFlag.sendFlush)) return;
    await this.#request("flush", { type: command.flush, flags: 0, offset: 0, length: 0 });
  }

  async blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    const map = { node: this.#node, offset };
    if (offset >= this.#size) return { bytes, data: false, zero: true, allocated: true, map };
    const within = Math.min(bytes, this.#size - offset);
    if (this.#link.agreement.contextId === undefined)
      return { bytes: within, data: true, zero: false, allocated: true, map };
    const length = Math.min(within, alignDown(MAX_PLAIN_BYTES, this.#minimum));
    const request = { type: command.blockStatus, flags: commandFlag.reqOne, offset, length };
    const { extent } = await this.#request("blockStatus", request);
    return this.#status(offset, { asked: length, extent: extent! });
  }

  #status(offset: number, { asked, extent }: { asked: number; extent: StatusExtent }): BlockStatus {
    const { flags } = extent;
    const map = { node: this.#node, offset };
    const bytes = Math.min(asked, extent.length);
    const whole = offset + bytes === this.#size ? bytes : alignDown(bytes, this.#minimum);
    // Less than the least block: of that nothing is said.
    if (whole === 0) return { bytes: this.#minimum, data: true, zero: false, allocated: true, map };
    const data = (flags & allocation.hole) === 0;
    const zero = (flags & allocation.zero) !== 0;
    return { bytes: whole, data, zero, allocated: data || zero, map };
  }

  truncate(size: number, { exact }: TruncateOptions): Promise<void> {
    if (exact && size !== this.length()) return Promise.reject(refused("Cannot resize NBD nodes"));
    if (size > this.length()) return Promise.reject(refused("Cannot grow NBD nodes"));
    return Promise.resolve();
  }

  setReadOnly(readOnly: boolean): Promise<void> {
    if (readOnly || !this.#has(exportFlag.readOnly)) return Promise.resolve();
    const message = "Can't reopen read-only NBD mount as read/write";
    return Promise.reject(blockError("EACCES", "reopen", message));
  }

  close(): Promise<void> {
    return this.#link.close();
  }

  giveUp(unanswered: Unanswered): void {
    this.#link.giveUp(unanswered);
  }

  #has(flag: number): boolean {
    return (this.#flags & flag) !== 0;
  }

  async #request(op: string, request: NbdRequest): ReturnType<Link["request"]> {
    try {
      return await this.#link.request(request);
    } catch (error) {
      if (!(error instanceof BlockError)) throw error;
      const { code, message, cause } = error;
      const place = { node: this.#node.name, offset: request.offset, bytes: request.length };
      throw new BlockError({ code, op, message, cause, ...place });
    }
  }
}

function refused(message: string): BlockError {
  return blockError("ENOTSUP", "truncate", message);
}
