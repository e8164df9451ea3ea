/**
 * blkverify: does each request on an image that is tested and on a plain copy of its disk, and compares: for tests of a format.
 * A difference ends the request with EIO, and its message says what differs; programs under QEMU's names end with it, as QEMU's.
 *
 * Invariant: what is read is the tested image's. Zeroes are written as data, and discards are not passed on, so that the copy
 * stays equal. Source: QAPI BlockdevOptionsBlkverify; behaviour and words of QEMU 7.2.
 */
import { BlockError, blockError, CommandError, errnoOf } from "../../base/errors.ts";
import { errnoToNumber } from "../../base/errno.ts";
import { type DriverType, type Edge, type RequestFlags, Role } from "../../block/model/contract.ts";
import { FilterDriver } from "../../block/model/filter-driver.ts";
import { childOption } from "../../block/model/options.ts";

const PREFIX = "blkverify:";

class BlkverifyDriver extends FilterDriver {
  readonly #test: Edge;
  readonly #onDifference: ((words: string) => void) | undefined;

  /** `raw` is the copy, `test` the image that is tested. */
  constructor(raw: Edge, test: Edge, onDifference: ((words: string) => void) | undefined) {
    super(raw);
    this.#test = test;
    this.#onDifference = onDifference;
  }

  override length(): number {
    return this.#test.length;
  }

  override async pread(offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
    const copy = new Uint8Array(buffer.byteLength);
    await this.#onBoth({ verb: "read", offset, bytes: buffer.byteLength }, (child) =>
      Promise.resolve(child.pread(offset, child === this.#test ? buffer : copy, flags)),
    );
    const different = buffer.findIndex((byte, at) => byte !== copy[at]);
    if (different < 0) return;
    const where = `contents mismatch at offset ${offset + different}`;
    throw this.#mismatch({ verb: "read", offset, bytes: buffer.byteLength }, where);
  }

  override pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
    return this.#onBoth({ verb: "write", offset, bytes: buffer.byteLength }, (child) =>
      Promise.resolve(child.pwrite(offset, buffer, flags)),
    );
  }

  /** The request path writes zeroes instead. */
  override pwriteZeroes(): Promise<void> {
    return Promise.reject(blockError("ENOTSUP", "pwriteZeroes"));
  }

  override pdiscard(): void {}

  /** Fails as both do. Where they end differently, that is what is told. */
  async #onBoth(request: Request, perform: (child: Edge) => Promise<void>): Promise<void> {
    const attempts = [perform(this.#test), perform(this.below)];
    const [result = 0, other = 0] = (await Promise.allSettled(attempts)).map(resultOf);
    if (result !== other) throw this.#mismatch(request, `return value mismatch ${result} != ${other}`);
    await attempts[0];
  }

  #mismatch({ verb, offset, bytes }: Request, what: string): Error {
    const op = verb === "read" ? "pread" : "pwrite";
    const message = `blkverify: ${verb} offset=${offset} bytes=${bytes} ${what}`;
    this.#onDifference?.(message);
    return new BlockError({ code: "EIO", op, message, details: { hint: message } });
  }
}

interface Request {
  readonly verb: "read" | "write";
  readonly offset: number;
  readonly bytes: number;
}

/** 0, or the negative number of the error. */
function resultOf(ended: PromiseSettledResult<void>): number {
  return ended.status === "fulfilled" ? 0 : -errnoToNumber(errnoOf(ended.reason));
}

/** Options: `raw`, the plain copy, and `test`, the image that is tested. Errors: EIO for a difference. */
export const blkverify: DriverType = {
  name: "blkverify",
  staysAsOpened: true,
  kind: "filter",
  /** `blkverify:RAW:IMAGE`; another name is the image's. */
  parseName(name) {
    if (!name.startsWith(PREFIX)) return { children: { test: { name, guess: true } } };
    const end = name.indexOf(":", PREFIX.length);
    if (end < 0) throw new CommandError("blkverify requires raw copy and original image path");
    return {
      children: {
        raw: { name: name.slice(PREFIX.length, end) },
        test: { name: name.slice(end + 1), guess: true },
      },
    };
  },
  plainName(options, below) {
    const [raw, test] = [below("raw"), below("test")];
    if (raw === undefined || test === undefined || Object.keys(options).length > 0) return undefined;
    return `${PREFIX}${raw}:${test}`;
  },
  async open(context, spec) {
    const raw = await context.openChild(childOption(spec, "raw"), "raw", Role.filtered | Role.primary);
    const test = await context.openChild(childOption(spec, "test"), "test", Role.data);
    return new BlkverifyDriver(raw, test, context.node.services.onDifference);
  },
};
