// What comes from a client: taken at once, kept only where it has to be, held back where nobody takes it.
import { describe, expect, test } from "vitest";
import type { HostConnection, HostReceiver } from "../../../../src/base/host.ts";
import { deferred } from "../../../../src/base/signals.ts";
import { Intake, type Next } from "../../../../src/server/nbd/intake.ts";

const KiB = 1024;

/** A connection whose bytes the test delivers out of one memory, and which notes how it is held. */
class Line implements HostConnection {
  readonly incoming = (async function* () {})();
  readonly held: boolean[] = [];
  readonly #memory = new Uint8Array(256 * KiB);
  #receiver!: HostReceiver;

  receive(receiver: HostReceiver): void {
    this.#receiver = receiver;
  }

  hold(isHeld: boolean): void {
    this.held.push(isHeld);
  }

  /** Puts the bytes where the receiver has a place, else hands them over in memory that is used again. */
  deliver(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.byteLength;) {
      const place = this.#receiver.place?.();
      const part = bytes.subarray(at, at + (place ?? this.#memory).byteLength);
      (place ?? this.#memory).set(part);
      at += part.byteLength;
      if (place) this.#receiver.placed?.(part.byteLength);
      else this.#receiver.take(this.#memory.subarray(0, part.byteLength));
      this.#memory.fill(0xee);
    }
  }

  end(): void {
    this.#receiver.end();
  }

  write(): void {}

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function lined(): { line: Line; intake: Intake } {
  const [line, intake] = [new Line(), new Intake()];
  intake.listen(line);
  return { line, intake };
}

/** So many bytes that count up from `first`. */
function counted(length: number, first = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, at) => (at + first) & 0xff);
}

/** Serves messages of four bytes, which `answer` decides about. */
function fours(intake: Intake, answer: (message: number[]) => Next | Promise<Next>): Promise<void> {
  return intake.serve(() => {
    const message = intake.inbox.take(4);
    return message ? answer([...message]) : "wait";
  });
}

describe("messages", () => {
  test("that are there are taken in the turn in which they come, however they are cut", async () => {
    const { line, intake } = lined();
    const taken: number[][] = [];
    const serving = fours(intake, (message) => {
      taken.push(message);
      return "again";
    });
    line.deliver(counted(10));
    expect(taken).toEqual([[...counted(4)], [...counted(4, 4)]]);
    line.deliver(counted(2, 10));
    expect(taken[2]).toEqual([8, 9, 10, 11]);
    line.end();
    await serving;
    expect(line.held).toEqual([]);
  });

  test("behind one that has to be waited for are kept, and held back when they are many", async () => {
    const { line, intake } = lined();
    const gate = deferred();
    let taken = 0;
    let right = 0;
    const serving = fours(intake, (message) => {
      if (message[0] === (4 * taken) % 256) right += 1;
      taken += 1;
      return taken === 1 ? gate.promise.then(() => "again" as const) : "again";
    });
    line.deliver(counted(4 + 32 * KiB));
    expect([taken, line.held]).toEqual([1, []]);
    line.deliver(counted(32 * KiB, 4));
    expect([taken, line.held]).toEqual([1, [true]]);
    gate.resolve();
    line.end();
    await serving;
    expect([taken, right]).toEqual([1 + 16 * KiB, 1 + 16 * KiB]);
  });

  test("go on to be read when those that waited have been taken", async () => {
    const { line, intake } = lined();
    const gate = deferred();
    let taken = 0;
    const serving = fours(intake, () =>
      taken++ === 0 ? gate.promise.then(() => "again" as const) : "again",
    );
    line.deliver(counted(80 * KiB));
    gate.resolve();
    while (line.held.length < 2) await new Promise((resolve) => setImmediate(resolve));
    expect(taken).toBe(20 * KiB);
    expect(line.held).toEqual([true, false]);
    line.end();
    await serving;
  });

  test("end with one that says so, with what it fails with, or with stop(), after which nothing is taken", async () => {
    const one = lined();
    const over = fours(one.intake, () => "over");
    one.line.deliver(counted(8));
    await over;
    expect(one.intake.inbox.length).toBe(4);

    const other = lined();
    const failing = fours(other.intake, () => {
      throw new Error("no such message");
    });
    other.line.deliver(counted(4));
    await expect(failing).rejects.toThrow("no such message");

    const last = lined();
    const stopped = fours(last.intake, () => (last.intake.isStopped ? "over" : "again"));
    last.intake.stop();
    await stopped;
    expect(await last.intake.more()).toBe(false);
  });
});

describe("data", () => {
  test("of a long message is put where it belongs, and what follows is kept", async () => {
    const { line, intake } = lined();
    line.deliver(counted(1000));
    const data = new Uint8Array(300 * KiB);
    const filling = intake.fill(data);
    line.deliver(counted(300 * KiB - 1000 + 3, 1000));
    expect(await filling).toBe(true);
    expect(Buffer.compare(data, counted(300 * KiB))).toBe(0);
    expect([...intake.inbox.take(3)!]).toEqual([...counted(3, 300 * KiB)]);
    expect(line.held).toEqual([]);
  });

  test("that does not come any more is told, also where it is to be passed over", async () => {
    const { line, intake } = lined();
    line.deliver(counted(6));
    const filling = intake.fill(new Uint8Array(10));
    line.end();
    expect(await filling).toBe(false);
    expect(await intake.pass(1)).toBe(false);
  });

  test("is passed over as it comes", async () => {
    const { line, intake } = lined();
    line.deliver(counted(6));
    expect(intake.pass(2)).toBe(true);
    const passing = intake.pass(100);
    line.deliver(counted(50));
    line.deliver(counted(50, 46));
    expect(await passing).toBe(true);
    expect([...intake.inbox.take(4)!]).toEqual([92, 93, 94, 95]);
  });
});
