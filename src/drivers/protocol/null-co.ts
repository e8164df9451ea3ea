/**
 * null-co and null-aio: a disk that takes every write and forgets it. Writes cost nothing, so it measures the layers above.
 * Invariant: without `read-zeroes` a read leaves the caller's buffer as it was, and no range counts as allocated.
 * Source: QAPI BlockdevOptionsNull, behaviour of QEMU 7.2.
 */
import { CommandError } from "../../base/errors.ts";
import { GiB } from "../../base/limits.ts";
import type { Clock } from "../../base/host.ts";
import { sleep } from "../../base/sleep.ts";
import type { BlockDriver, BlockStatus, DriverType } from "../../block/model/contract.ts";
import type { NodeView } from "../../block/model/contract.ts";
import { booleanOption, sizeOption } from "../../block/model/options.ts";

const NANOSECONDS_PER_MILLISECOND = 1e6;

class NullDriver implements BlockDriver {
  readonly #node: NodeView;
  readonly #clock: Clock;
  readonly #size: number;
  readonly #latencyMs: number;
  readonly #readZeroes: boolean;

  constructor(init: { node: NodeView; clock: Clock; size: number; latencyMs: number; readZeroes: boolean }) {
    this.#node = init.node;
    this.#clock = init.clock;
    this.#size = init.size;
    this.#latencyMs = init.latencyMs;
    this.#readZeroes = init.readZeroes;
  }

  length(): number {
    return this.#size;
  }

  async pread(_offset: number, buffer: Uint8Array): Promise<void> {
    if (this.#readZeroes) buffer.fill(0);
    await this.#wait();
  }

  pwrite(): Promise<void> {
    return this.#wait();
  }

  flush(): Promise<void> {
    return this.#wait();
  }

  blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    const zero = this.#readZeroes;
    return Promise.resolve({ bytes, data: false, zero, allocated: zero, map: { node: this.#node, offset } });
  }

  allocatedBytes(): Promise<number> {
    return Promise.resolve(0);
  }

  #wait(): Promise<void> {
    return this.#latencyMs > 0 ? sleep(this.#clock, this.#latencyMs) : Promise.resolve();
  }
}

/** The driver under one of QEMU's two names for it, which there tell two ways of waiting. */
function nullDriver(name: "null-co" | "null-aio"): DriverType {
  const filename = `${name}://`;
  return {
    name,
    kind: "protocol",
    parseName(given) {
      if (given === filename) return {};
      throw new CommandError(`The only allowed filename for this driver is '${filename}'`);
    },
    namedBy: ["size", "read-zeroes"],
    plainName: (options) => (Object.keys(options).length === 0 ? filename : undefined),
    open({ node, host }, spec) {
      const size = sizeOption(spec, "size") ?? GiB;
      const latencyMs = (sizeOption(spec, "latency-ns") ?? 0) / NANOSECONDS_PER_MILLISECOND;
      const readZeroes = booleanOption(spec, "read-zeroes") ?? false;
      return Promise.resolve(new NullDriver({ node, clock: host.clock, size, latencyMs, readZeroes }));
    },
  };
}

/** Options: `size` (bytes, default 1 GiB), `latency-ns` (of every request), `read-zeroes`. */
export const nullCo: DriverType = nullDriver("null-co");

/** The same by QEMU's other name for it. */
export const nullAio: DriverType = nullDriver("null-aio");
