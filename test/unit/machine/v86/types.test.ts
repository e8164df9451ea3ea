// v86's types and ours fit without a cast, in the newest release and in an old one.
import { expect, expectTypeOf, test } from "vitest";
import type { V86, V86Options } from "v86";
import type { V86 as OldV86, V86Options as OldV86Options } from "v86-old";
import type { V86Disk } from "../../../../src/machine/v86/disk.ts";
import type { V86Emulator } from "../../../../src/machine/v86/emulator.ts";

test("a disk is an image of v86's, and its V86 is an emulator of ours", () => {
  expectTypeOf<V86Disk>().toExtend<NonNullable<V86Options["hda"]>>();
  expectTypeOf<V86Disk>().toExtend<NonNullable<OldV86Options["cdrom"]>>();
  expectTypeOf<V86>().toExtend<V86Emulator>();
  expectTypeOf<OldV86>().toExtend<V86Emulator>();
  expect(true).toBe(true);
});
