// v86 in Node, with Debian's SeaBIOS and the guest of monitor.asm.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { V86 } from "v86";
import { V86 as OldV86 } from "v86-old";
import { assemble } from "../../../.ci/assemble.mjs";
import type { V86Disk } from "../../../src/machine/v86/disk.ts";
import { root } from "../root.ts";
import { MonitorGuest } from "./monitor-guest.ts";

/** The builds that the tests run: the newest, and one before the cache methods. */
export const builds = ["v86", "v86-old"] as const;
export type Build = (typeof builds)[number];

/** SeaBIOS and its VGA BIOS, from Debian's package seabios. */
export const firmware = {
  bios: "/usr/share/seabios/bios.bin",
  vga: "/usr/share/seabios/vgabios-stdvga.bin",
};

/** The folder of a build: libv86.mjs, v86.wasm. */
export function buildFolder(build: Build): string {
  return dirname(createRequire(import.meta.url).resolve(build));
}

/** The boot sector of monitor.asm. */
export function monitorSector(): Uint8Array {
  return assemble({ root, source: "test/support/v86/monitor.asm" });
}

/** A machine that runs; `await using` ends it. */
export interface Booted extends AsyncDisposable {
  emulator: V86;
  guest: MonitorGuest;
}

/** Boots the guest from a disk whose first sector is monitorSector(). */
export function boot(build: Build, disk: V86Disk): Booted {
  // The old build's types list fewer events.
  const Emulator = build === "v86" ? V86 : (OldV86 as unknown as typeof V86);
  const emulator = new Emulator({
    wasm_path: join(buildFolder(build), "v86.wasm"),
    bios: { url: firmware.bios },
    vga_bios: { url: firmware.vga },
    hda: disk,
    memory_size: 16 << 20,
    vga_memory_size: 2 << 20,
    disable_speaker: true,
    autostart: true,
    boot_order: 0x132,
  });
  disk.attach(emulator);
  return {
    emulator,
    guest: new MonitorGuest(emulator),
    async [Symbol.asyncDispose]() {
      await disk.close();
      await emulator.destroy();
    },
  };
}
