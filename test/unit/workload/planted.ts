/** Disks in memory of which one request of a kind is carried out wrongly: corruptions that a verified run must find. */
import type { BlockDriver, DriverType } from "../../../src/block/model/contract.ts";
import { portableDrivers } from "../../../src/drivers/index.ts";

/** Requests that can be planted. */
export type Kind = "pread" | "pwrite" | "pwriteZeroes" | "pdiscard";

/** What becomes of the request of a number. `right` carries it out. */
export type Plant = (
  driver: BlockDriver,
  request: { offset: number; bytes: number; buffer: Uint8Array },
  right: () => unknown,
) => unknown;

/** The drivers, with a disk in memory whose request of this number goes wrong. */
export function planted(kind: Kind, nth: number, plant: Plant): readonly DriverType[] {
  const memory = portableDrivers.find(({ name }) => name === "memory")!;
  const open: DriverType["open"] = async (context, spec) => {
    const driver = await memory.open(context, spec);
    let seen = 0;
    const wrong = async (offset: number, what: Uint8Array | number, flags: number): Promise<void> => {
      seen += 1;
      const right = (): unknown => Reflect.apply(driver[kind]!, driver, [offset, what, flags]);
      const isBuffer = typeof what !== "number";
      const buffer = isBuffer ? what : new Uint8Array(0);
      if (seen === nth) await plant(driver, { offset, bytes: isBuffer ? what.length : what, buffer }, right);
      else await right();
    };
    return new Proxy(driver, {
      get: (_target, name) => {
        if (name === kind) return wrong;
        const member: unknown = Reflect.get(driver, name, driver);
        return typeof member === "function"
          ? (...args: unknown[]): unknown => Reflect.apply(member, driver, args)
          : member;
      },
    });
  };
  return portableDrivers.map((type) => (type === memory ? { ...memory, open } : type));
}
