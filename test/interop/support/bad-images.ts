// Images that are wrong in one place each, made from an image of qemu-img by patching bytes; and where two programs'
// words for them are known to differ.
import {
  closeSync,
  openSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { mkdirSync } from "node:fs";
import { must } from "../../support/tools.ts";

/** One bad thing to open. */
export interface BadImage {
  name: string;
  /** Makes the files in a directory; `image` names the file to open there. */
  make: (path: (name: string) => string) => Promise<void> | void;
  /** Options of the qcow2 node beside driver, name and file. */
  options?: Record<string, unknown>;
  /** What we answer where it is not what QEMU answers, and why. */
  differs?: { words: RegExp; because: string };
  /** QEMU never answers. */
  qemuHangs?: boolean;
  /** Both programs open it: what the file lacks reads as zeroes. */
  opens?: boolean;
}

type Patch = readonly [offset: number, bytes: number, value: bigint];

/** Changes big-endian numbers in a file. */
export function patchFile(path: string, ...patches: readonly Patch[]): void {
  const file = openSync(path, "r+");
  for (const [offset, bytes, value] of patches) {
    const data = Buffer.alloc(8);
    data.writeBigUInt64BE(value);
    writeSync(file, data, 8 - bytes, bytes, offset);
  }
  closeSync(file);
}

/** A good image of 1 MiB with some data. */
export async function goodImage(path: string, ...options: string[]): Promise<void> {
  await must("qemu-img", "create", "-q", "-f", "qcow2", ...options, path, "1M");
  await must("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 256k", path);
}

function patched(name: string, ...patches: readonly Patch[]): BadImage {
  return {
    name,
    async make(path) {
      await goodImage(path("image"));
      patchFile(path("image"), ...patches);
    },
  };
}

function truncated(name: string, bytes: number, rest: Partial<BadImage> = {}): BadImage {
  return {
    name,
    ...rest,
    async make(path) {
      await goodImage(path("image"));
      truncateSync(path("image"), bytes);
    },
  };
}

function backing(name: string, link: string, rest: Partial<BadImage> = {}): BadImage {
  return {
    name,
    async make(path) {
      // qemu-img opens the name to be sure of it, unless told not to (-u).
      const words = ["-u", "-b", link, "-F", "qcow2", path("image"), "1M"];
      await must("qemu-img", "create", "-q", "-f", "qcow2", ...words);
    },
    ...rest,
  };
}

const gate = "an image's header opens local files only";

/** Everything that must be refused when it is opened. */
export const badImages: readonly BadImage[] = [
  { name: "no file", make: () => undefined },
  { name: "a directory", make: (path) => mkdirSync(path("image")) },
  { name: "an empty file", make: (path) => writeFileSync(path("image"), "") },
  { name: "a dangling link", make: (path) => symlinkSync(path("nothing"), path("image")) },
  { name: "no qcow2", make: (path) => writeFileSync(path("image"), Buffer.alloc(65536, 0x41)) },
  truncated("a file cut within its header", 40),
  truncated("a file cut before its L1 table", 65536, { opens: true }),
  patched("version 1", [4, 4, 1n]),
  patched("version 4", [4, 4, 4n]),
  patched("clusters too small", [20, 4, 8n]),
  patched("clusters too large", [20, 4, 22n]),
  patched("cluster bits that overflow", [20, 4, 0xffffffffn]),
  patched("an absurd size", [24, 8, 0x7fffffffffffffffn]),
  {
    ...patched("a negative size", [24, 8, 0xffffffffffffff00n]),
    differs: { words: /^Image is too big$/, because: "sizes are checked before anything is done with them" },
  },
  patched("a size beyond the L1 table", [24, 8, 1n << 50n]),
  patched("an unknown encryption", [32, 4, 9n]),
  patched("an L1 table that is too large", [36, 4, 0xffffffffn]),
  patched("an L1 table that is too small", [36, 4, 0n]),
  patched("an unaligned L1 table", [40, 8, 513n]),
  {
    ...patched("an L1 table beyond what offsets can say", [40, 8, 0x7fffffffffff0000n]),
    differs: { words: /^Active L1 table offset invalid$/, because: "QEMU finds out by reading there" },
  },
  patched("an unaligned refcount table", [48, 8, 513n]),
  patched("a refcount table that is too large", [56, 4, 0xffffffffn]),
  patched("no refcount table", [56, 4, 0n]),
  patched("a refcount table beyond what offsets can say", [48, 8, 0x7fffffffffff0000n]),
  patched("too many snapshots", [60, 4, 0xffffffffn], [64, 8, 65536n]),
  patched("an unaligned snapshot table", [60, 4, 1n], [64, 8, 513n]),
  patched("an unknown incompatible feature", [72, 8, 1n << 40n]),
  patched("a corrupt image", [72, 8, 2n]),
  patched("refcounts too wide", [96, 4, 7n]),
  patched("a header that is too short", [100, 4, 72n]),
  patched("a header that is too long", [100, 4, 0xfffffff8n]),
  patched("a header extension that is too long", [104, 4, 0x6803f857n], [108, 4, 0xfffffff0n]),
  patched("a backing name that is too long", [8, 8, 512n], [16, 4, 2000n]),
  patched("a backing name beyond the first cluster", [8, 8, 1n << 40n], [16, 4, 10n]),
  backing("a backing file that is not there", "nothing.qcow2"),
  backing("a backing file that is a directory", ".", {
    differs: { words: /^Could not open backing file: .*regular file/, because: gate },
  }),
  backing("a backing name of json:", 'json:{"driver":"null-co"}', {
    differs: { words: /^Could not open backing file: .*names with a protocol/, because: gate },
  }),
  backing("a backing name of nbd:", "nbd:127.0.0.1:1", {
    differs: { words: /^Could not open backing file: .*names with a protocol/, because: gate },
  }),
  backing("an image that is its own backing file", "image", {
    differs: {
      words: /^Backing file 'DIR\/image' creates an infinite loop\.$/,
      because: "qemu-img info says so",
    },
    qemuHangs: true,
  }),
  backing("an image that is its own backing file by ever longer names", "./image", {
    differs: { words: /^Backing chain is deeper than 200 images/, because: "QEMU has no limit" },
    qemuHangs: true,
  }),
];

/** The content of a file as one string for comparing; what is no file is its kind. */
export function contentOf(path: string): string {
  try {
    return readFileSync(path).toString("latin1");
  } catch (error) {
    return (error as { code: string }).code;
  }
}
