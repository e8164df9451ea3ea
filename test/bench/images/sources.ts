/** The disks that the commands of `npm run bench:images` are given; each is made when it is first asked for. */
import { execFileSync } from "node:child_process";
import { closeSync, existsSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { noiseWords } from "../support/disk.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
/** Overlays of a long chain. */
export const OVERLAYS = 200;

type Fill = (bytes: Uint8Array) => void;

/** Noise that does not compress. */
function noise(): Fill {
  const next = noiseWords();
  return (bytes) => next(new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4));
}

/** Words in random order: compresses as text does, to less than a half. */
function text(): Fill {
  const words = Array.from({ length: 4096 }, (_, n) => Math.abs(Math.trunc(Math.sin(n) * 1e9)).toString(36));
  let state = 12_345;
  return (bytes) => {
    let line = "";
    while (line.length < bytes.byteLength) {
      state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
      line += `${words[(state >> 8) & 4095]} `;
    }
    bytes.set(Buffer.from(line.slice(0, bytes.byteLength)));
  };
}

/** Where the data of a file lie: `count` pieces, each `step` bytes after the one before. */
interface Layout {
  readonly piece: number;
  readonly step: number;
  readonly count: number;
}

function write(path: string, fill: Fill, { piece, step, count }: Layout): void {
  const fd = openSync(path, "w");
  const buffer = new Uint8Array(piece);
  for (let index = 0; index < count; index++) {
    fill(buffer);
    writeSync(fd, buffer, 0, piece, index * step);
  }
  ftruncateSync(fd, count * step);
  closeSync(fd);
}

/** Disks in a folder, of `mebibytes` where a name says nothing else. */
export class Sources {
  readonly #folder: string;
  readonly #mebibytes: number;

  constructor(folder: string, mebibytes: number) {
    this.#folder = folder;
    this.#mebibytes = mebibytes;
  }

  /** How each is made; in the order in which they need each other. */
  readonly #makers: Readonly<Record<string, () => void>> = {
    "src.raw": () => this.#raw("src.raw", noise(), { piece: MiB, step: MiB, count: this.#mebibytes }),
    "src.qcow2": () => this.#converted("src.raw", "src.qcow2"),
    "text.raw": () => this.#raw("text.raw", text(), { piece: MiB, step: MiB, count: this.#mebibytes / 4 }),
    "zlib.qcow2": () => this.#converted("text.raw", "zlib.qcow2", "-c"),
    "zstd.qcow2": () => this.#converted("text.raw", "zstd.qcow2", "-c", "-o", "compression_type=zstd"),
    // 16384 pieces of 64 KiB, one in every 4 MiB of 64 GiB.
    "sparse.raw": () =>
      this.#raw("sparse.raw", noise(), { piece: 65_536, step: 4 * MiB, count: GiB / 65_536 }),
    "sparse.qcow2": () => this.#converted("sparse.raw", "sparse.qcow2"),
    // 512 pieces of a mebibyte in 64 GiB.
    "few.raw": () => this.#raw("few.raw", noise(), { piece: MiB, step: 128 * MiB, count: 512 }),
    "pieces.raw": () =>
      this.#raw("pieces.raw", noise(), { piece: MiB, step: 4 * MiB, count: this.#mebibytes }),
    "chain.qcow2": () => this.#chain(),
    "empty-small.qcow2": () => this.#img("create", "-f", "qcow2", "empty-small.qcow2", "64M"),
    "empty-large.qcow2": () =>
      this.#img("create", "-f", "qcow2", "-o", "cluster_size=2M", "empty-large.qcow2", "64T"),
  };

  #img(...args: string[]): void {
    execFileSync("qemu-img", args, { cwd: this.#folder, stdio: "ignore" });
  }

  #raw(name: string, fill: Fill, layout: Layout): void {
    write(join(this.#folder, name), fill, layout);
  }

  #converted(from: string, to: string, ...more: string[]): void {
    this.need(from);
    this.#img("convert", ...more, "-f", from.endsWith(".raw") ? "raw" : "qcow2", "-O", "qcow2", from, to);
  }

  /** 256 MiB under overlays that have a mebibyte each. */
  #chain(): void {
    this.#raw("chain-0.raw", noise(), { piece: MiB, step: MiB, count: 256 });
    for (let index = 1; index <= OVERLAYS; index++) {
      const below =
        index === 1 ? ["-b", "chain-0.raw", "-F", "raw"] : ["-b", `chain-${index - 1}.qcow2`, "-F", "qcow2"];
      const name = index === OVERLAYS ? "chain.qcow2" : `chain-${index}.qcow2`;
      this.#img("create", "-f", "qcow2", ...below, name);
      execFileSync("qemu-io", ["-f", "qcow2", "-c", `write -P ${index} ${index}M 1M`, name], {
        cwd: this.#folder,
        stdio: "ignore",
      });
    }
  }

  /** Makes one that is not there yet. */
  need(name: string): void {
    if (!existsSync(join(this.#folder, name))) this.#makers[name]!();
  }
}
