// Faults that are planted on purpose.
import { expect, test } from "vitest";
import { AssertionError } from "../../../src/base/assert.ts";

/** By what is wrong: words of the assert that is to trip, and what plants the fault. */
export type PlantedFaults = Readonly<Record<string, [words: string, plant: () => unknown]>>;

/** A test for each: it trips its assert. */
export function testPlantedFaults(faults: PlantedFaults): void {
  test.each(Object.entries(faults))("%s", async (_what, [words, plant]) => {
    const planted = async (): Promise<void> => void (await plant());
    const error = await planted().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(AssertionError);
    expect((error as AssertionError).message).toContain(words);
  });
}
