// Leases: given back once, on every way out, in order, and told in the words of what failed first.
import { describe, expect, test } from "vitest";
import { firstFailure, messageOf } from "../../../src/base/errors.ts";
import { Lease, Leases, asyncDispose, dispose } from "../../../src/base/lease.ts";

describe("a lease", () => {
  test("is given back once, and not at all once it is kept", async () => {
    let given = 0;
    const lease = new Lease(() => {
      given += 1;
    });
    expect(lease.isHeld).toBe(true);
    await lease.end();
    await lease.end();
    expect([given, lease.isHeld]).toEqual([1, false]);
    const kept = new Lease(() => {
      given += 1;
    });
    kept.keep();
    await kept.end();
    expect(given).toBe(1);
    await new Lease().end();
  });

  test("ends on every way out of a block, and the first error is what the user sees", async () => {
    const log: string[] = [];
    const block = async (fails: boolean): Promise<void> => {
      await using _lease = new Lease(() => {
        log.push("back");
        return Promise.reject(new Error("flush failed"));
      });
      if (fails) throw new Error("No space left on device");
    };
    await expect(block(false)).rejects.toThrow("flush failed");
    const thrown: unknown = await block(true).catch((error: unknown) => error);
    expect(log).toEqual(["back", "back"]);
    expect(messageOf(thrown)).toBe("No space left on device");
    expect((firstFailure(thrown) as Error).cause).toMatchObject({ message: "flush failed" });
  });

  test("has names that `using` finds, whatever the engine knows", () => {
    expect(asyncDispose).toBe(Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose"));
    expect(dispose).toBe(Symbol.dispose ?? Symbol.for("Symbol.dispose"));
  });
});

describe("leases", () => {
  test("end newest first, all of them, whatever fails; the first failure is thrown, the others are its causes", async () => {
    const log: string[] = [];
    const leases = new Leases();
    for (const name of ["a", "b", "c"]) {
      const fail = (): Promise<void> => {
        log.push(name);
        return Promise.reject(new Error(name));
      };
      leases.add(new Lease(fail));
    }
    leases.defer(() => void log.push("d"));
    const thrown = (await leases.end().catch((error: unknown) => error)) as Error;
    expect(log).toEqual(["d", "c", "b", "a"]);
    expect(thrown.message).toBe("c");
    expect(thrown.cause).toMatchObject({ message: "b", cause: { message: "a" } });
    await leases.end();
    expect(log).toHaveLength(4);
  });

  test("one that was ended or kept by itself is left out", async () => {
    const log: string[] = [];
    const leases = new Leases();
    const [one, two] = ["one", "two"].map((name) => leases.defer(() => void log.push(name)));
    leases.defer(() => void log.push("three"));
    await one!.end();
    two!.keep();
    await leases.end();
    expect(log).toEqual(["one", "three"]);
  });
});
