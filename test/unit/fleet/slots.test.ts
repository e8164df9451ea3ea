// Limits on transfers: all places or none, the earlier first, none lost.
import { expect, it } from "vitest";
import { TransferSlots } from "../../../src/fleet/slots.ts";

const keys = (store: string, source = "s"): { host: string; store: string; source: string } => ({
  host: "h",
  store,
  source,
});

async function turns(): Promise<void> {
  for (let count = 0; count < 10; count++) await Promise.resolve();
}

it("gives a place to the one that came first, and past it where it is held up elsewhere", async () => {
  const slots = new TransferSlots({ store: 1, source: 2 });
  const order: string[] = [];
  const take = (name: string, store: string, source?: string): Promise<() => void> =>
    slots.take(keys(store, source)).then((give) => {
      order.push(name);
      return give;
    });
  const a = await take("a", "x");
  const b = take("b", "x");
  const c = take("c", "x");
  const d = await take("d", "y");
  const e = take("e", "z");
  await turns();
  // e waits for the source, which a and d hold.
  expect(order).toEqual(["a", "d"]);
  d();
  const giveE = await e;
  expect(order).toEqual(["a", "d", "e"]);
  a();
  a();
  const giveB = await b;
  expect(order).toEqual(["a", "d", "e", "b"]);
  giveE();
  giveB();
  (await c)();
  expect(order.at(-1)).toBe("c");
  // Nothing is held any more.
  (await take("f", "x"))();
});

it("forgets one that waits no longer", async () => {
  const slots = new TransferSlots({ host: 1 });
  const first = await slots.take(keys("x"));
  const abort = new AbortController();
  const waiting = slots.take(keys("y"), abort.signal);
  abort.abort(new Error("no more"));
  await expect(waiting).rejects.toThrow("no more");
  first();
  (await slots.take(keys("z")))();
  await expect(slots.take(keys("z"), abort.signal)).rejects.toThrow("no more");
});
