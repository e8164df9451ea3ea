/**
 * The guest: v86 on the page, its disk in the worker. Requests show on the map while they are under way, and what is typed
 * reaches it only while its screen has the focus, so that the page stays usable by keyboard.
 */
import { V86 } from "v86";
import type { GuestDisk } from "../index.ts";
import { toV86Disk } from "../v86.ts";
import type { GuestKind } from "./guest-choice.ts";
import type { MapModel } from "./map-model.ts";
import type { Session } from "./session.ts";
import type { Situation } from "./words.ts";

/** Scan codes, pressed and let go. */
const ENTER = [0x1c, 0x9c];
const BACKSPACE = [0x0e, 0x8e];
const KEY_MS = 12;
const MiB = 1024 * 1024;

/** What v86 gets for each guest beside what both have. */
const machines: Record<GuestKind, object> = {
  tiny: { memory_size: 16 * MiB },
  debian: {
    memory_size: 128 * MiB,
    bzimage: { url: "linux/vmlinuz" },
    initrd: { url: "linux/initrd" },
    cmdline: "console=tty0 mitigations=off nokaslr tsc=reliable random.trust_cpu=on",
  },
};

/** A request of the guest's that is under way. */
export type Wanted = NonNullable<Situation["wants"]>;

const SECTOR = 512;

/** A running guest. */
export interface Guest {
  /** What it waits for the longest, if it waits. */
  readonly wants: Wanted | undefined;
  /** Types a line, and Enter. */
  type(text: string): Promise<void>;
  /** Stops the emulator and takes its disk out. */
  end(): Promise<void>;
}

/** Where the guest's requests are shown. */
interface Shown {
  container: HTMLElement;
  model: MapModel;
  changed: () => void;
}

/** The disk, with its requests shown on the map, and in `wants` while they are under way, the oldest first. */
function watched(disk: GuestDisk, { model, changed }: Shown, wants: Set<Wanted>): GuestDisk {
  const show = async <T>(
    range: [offset: number, bytes: number],
    how: "read" | "written",
    work: Promise<T>,
  ): Promise<T> => {
    const end = model.begin(...range);
    const want: Wanted = { what: how === "read" ? "read" : "write", sector: Math.floor(range[0] / SECTOR) };
    wants.add(want);
    changed();
    try {
      const value = await work;
      end(how);
      return value;
    } catch (error) {
      end("failed");
      throw error;
    } finally {
      wants.delete(want);
      changed();
    }
  };
  return {
    length: disk.length,
    readOnly: disk.readOnly,
    session: disk.session,
    machine: disk.machine,
    read: (offset, bytes, options) =>
      show([offset, bytes], "read", Promise.resolve(disk.read(offset, bytes, options))),
    write: (offset, data) => show([offset, data.byteLength], "written", disk.write(offset, data)),
    flush: () => disk.flush(),
    close: () => disk.close(),
  };
}

/** Boots a guest on the screen `container`. */
export async function boot(session: Session, kind: GuestKind, shown: Shown): Promise<Guest> {
  const { container } = shown;
  const wants = new Set<Wanted>();
  // A small write reads what is around it, maybe from the server: it waits as a read does (the default policies).
  const remote = await session.engine.guestDisk(session.topNode);
  const disk = await toV86Disk(watched(remote, shown, wants), { identity: "demo" });
  const emulator = new V86({
    wasm_path: "v86/v86.wasm",
    bios: { url: "firmware/bios.bin" },
    vga_bios: { url: "firmware/vgabios-stdvga.bin" },
    hda: disk,
    ...machines[kind],
    vga_memory_size: 2 * MiB,
    screen_container: container,
    disable_mouse: true,
    disable_speaker: true,
    autostart: true,
    boot_order: 0x132,
  });
  disk.attach(emulator);
  // v86 listens at the window, which would take the keyboard from the rest of the page.
  emulator.add_listener("emulator-started", () => emulator.keyboard_set_enabled(false));
  const press = (character: string): void => {
    emulator.keyboard_set_enabled(true);
    emulator.keyboard_send_text(character);
    emulator.keyboard_set_enabled(false);
  };
  // The BIOS keeps 15 keys at most.
  const type = async (text: string): Promise<void> => {
    for (const character of text) {
      press(character);
      await new Promise((resolve) => setTimeout(resolve, KEY_MS));
    }
    emulator.keyboard_send_scancodes(ENTER);
  };
  container.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter") emulator.keyboard_send_scancodes(ENTER);
    else if (event.key === "Backspace") emulator.keyboard_send_scancodes(BACKSPACE);
    else if (event.key.length === 1) press(event.key);
    else return;
    event.preventDefault();
  });
  return {
    get wants() {
      return [...wants][0];
    },
    type,
    async end() {
      await emulator.stop();
      await disk.close();
      await emulator.destroy();
    },
  };
}
