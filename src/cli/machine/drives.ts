/**
 * Making drives: `-drive` and what stands for it (`-hda`, `-cdrom`, drive_add), and the images in them.
 * Source: behaviour of QEMU 7.2's drive_new and blockdev_init.
 */
import { commitOverlay } from "../../api/commit.ts";
import { Node } from "../../api/node.ts";
import { closing } from "../../base/lease.ts";
import { CommandError } from "../../base/errors.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { NewImage } from "../../block/graph/home.ts";
import { nodeFilename } from "../../block/model/filename.ts";
import type { NodeSpec } from "../../block/model/contract.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { Board } from "../../machine/board/board.ts";
import type { Drive, DriveInterface, DrivePlace } from "../../machine/board/drive.ts";
import { parseKeyval } from "../../wire/qapi/index.ts";
import { describeImage, withAio } from "../images.ts";
import { CreateOptions } from "../options/create-options.ts";
import { type DriveWish, readDrive } from "./drive-options.ts";
import { openTemporaryOverlay } from "./temporary-overlay.ts";

/** Most units of a bus, for interfaces whose places are counted so. */
const unitsPerBus: Partial<Record<DriveInterface, number>> = { ide: 2, scsi: 7 };

/** What QEMU prints of an image that a command makes. */
export function formattingLine(graph: BlockGraph, { format, filename, size, backing }: NewImage): string {
  if (graph.driver(format).kind === "protocol")
    return `Formatting '${filename}', fmt=${format} size=${size}\n`;
  const options = new CreateOptions(graph, format);
  options.set("size", String(size));
  if (backing && options.accepts("backing_file")) {
    options.set("backing_file", nodeFilename(backing.node));
    options.set("backing_fmt", backing.format);
  }
  return `Formatting '${filename}', fmt=${format} ${options.toString()}\n`;
}

/** What makes drives on a board. */
export class DriveMaker {
  readonly #board: Board;
  readonly #signal: AbortSignal;
  readonly #snapshot: boolean;

  /** `snapshot`: nothing is written into drives' images unless a drive wants it. */
  constructor(board: Board, { signal, snapshot }: { signal: AbortSignal; snapshot: boolean }) {
    this.#board = board;
    this.#signal = signal;
    this.#snapshot = snapshot;
  }

  /** Makes a drive of the text of `-drive`. Throws CommandError, QapiError, Refusal. */
  async make(text: string, warn: (words: string) => void = () => undefined): Promise<Drive> {
    const wish = readDrive(text, this.#board.hasChips ? "ide" : "none");
    const place = this.#placeOf(wish);
    const name = wish.name ?? defaultName(place);
    if (this.#board.drive(name)) throw new CommandError(`Duplicate ID '${name}' for drive`);
    if (wish.options["node-name"] === name)
      throw new CommandError(`Device name '${name}' conflicts with an existing node name`);
    if (wish.copyOnRead && wish.readOnly) {
      warn("disabling copy-on-read on read-only drive");
      wish.copyOnRead = false;
    }
    const drive = this.#board.addDrive({
      name,
      place,
      readOnly: wish.readOnly,
      writeCache: wish.writeCache,
      counting: wish.counting,
      ...(wish.rerror === undefined ? {} : { rerror: wish.rerror }),
      ...(wish.werror === undefined ? {} : { werror: wish.werror }),
    });
    try {
      drive.limit(wish.throttling ?? {}, wish.throttleGroup);
      if (!wish.isEmpty) await this.#fill(drive, wish);
    } catch (error) {
      await this.#board.removeDrive(drive);
      throw error;
    }
    return drive;
  }

  /** Makes a drive of such a text where its place is free. */
  async makeDefault(text: string): Promise<Drive | undefined> {
    try {
      this.#placeOf(readDrive(text, "ide"));
    } catch {
      return undefined;
    }
    return this.make(text);
  }

  /** Makes a node, and no drive, of such a text (`drive_add -n`). Throws CommandError, QapiError, Refusal. */
  async makeNode(text: string): Promise<void> {
    const options = parseKeyval(text);
    if (options["node-name"] === undefined) throw new CommandError("'node-name' needs to be specified");
    const { engine } = this.#board;
    const opener = { engine, signal: this.#signal };
    await engine.graph.add(await describeImage(opener, undefined, { options, write: true }));
  }

  async #fill(drive: Drive, wish: DriveWish): Promise<void> {
    const { graph } = this.#board.engine;
    const node = await this.#openWish(wish);
    try {
      await drive.insert(node);
    } finally {
      await graph.release(node);
    }
  }

  async #openWish(wish: DriveWish): Promise<BlockNode> {
    const { graph } = this.#board.engine;
    const node = await this.#openImage(wish);
    if (!wish.copyOnRead) return node;
    try {
      const filter = await graph.open({ driver: "copy-on-read", file: node.name });
      // QEMU's drive does so by itself: nobody sees a node for it.
      filter.implicit = true;
      return filter;
    } finally {
      await graph.release(node);
    }
  }

  /** The image, or an overlay over it that goes with the machine. */
  async #openImage(wish: DriveWish): Promise<BlockNode> {
    const { graph } = this.#board.engine;
    if (!(wish.snapshot ?? this.#snapshot)) return this.#open(await this.#describe(wish));
    const image = await graph.open(await this.#describe({ ...wish, readOnly: true }));
    try {
      return await openTemporaryOverlay(graph, image, wish);
    } finally {
      await graph.release(image);
    }
  }

  /** A drive may ask to unmap the zeroes that are found though discards do not go through: it is no more than shown then. */
  async #open({ "detect-zeroes": detectZeroes = "off", ...spec }: NodeSpec): Promise<BlockNode> {
    const node = await this.#board.engine.graph.open(spec);
    node.options = { ...node.options, detectZeroes };
    return node;
  }

  async #describe(wish: DriveWish): Promise<NodeSpec> {
    const { file, format, options, readOnly, aio } = wish;
    if (options["force-share"] === "on" && !readOnly)
      throw new CommandError("force-share=on can only be used with read-only images");
    const opener = { engine: this.#board.engine, signal: this.#signal };
    const how = { format, options, write: !readOnly };
    const spec = await describeImage(opener, file, how);
    return { ...withAio(spec, aio), "read-only": spec["read-only"] ?? readOnly };
  }

  /** Writes an overlay into its backing file, and empties it. */
  async commit(node: BlockNode): Promise<void> {
    const handle = await Node.attach(this.#board.engine, node);
    await closing(
      () => commitOverlay(handle),
      () => handle.close(),
    );
  }

  /** Opens the image of a medium, by its name as the command line spells it; a reference is held on it. */
  async openImage(image: {
    filename: string;
    format: string | undefined;
    readOnly: boolean;
  }): Promise<BlockNode> {
    const { filename, format, readOnly } = image;
    const opener = { engine: this.#board.engine, signal: this.#signal };
    const spec = await describeImage(opener, filename, { format, write: !readOnly });
    return this.#board.engine.graph.open({ ...spec, "read-only": readOnly });
  }

  #placeOf({ place, index }: DriveWish): DrivePlace {
    const { interface: kind, isCdrom } = place;
    const most = unitsPerBus[kind] ?? 0;
    let { bus, unit } = place;
    if (index !== undefined) {
      bus = most === 0 ? 0 : Math.floor(index / most);
      unit = most === 0 ? index : index % most;
    }
    bus ??= 0;
    if (unit === undefined) {
      unit = 0;
      while (this.#at(kind, { bus, unit })) {
        unit += 1;
        if (most > 0 && unit >= most) {
          unit -= most;
          bus += 1;
        }
      }
    }
    if (most > 0 && unit >= most) throw new CommandError(`unit ${unit} too big (max is ${most - 1})`);
    if (this.#at(kind, { bus, unit }))
      throw new CommandError(
        `drive with bus=${bus}, unit=${unit} (index=${index ?? (most === 0 ? unit : bus * most + unit)}) exists`,
      );
    return { interface: kind, bus, unit, isCdrom };
  }

  #at(kind: DriveInterface, { bus, unit }: { bus: number; unit: number }): boolean {
    return [...this.#board.drives].some(
      ({ place }) => place?.interface === kind && place.bus === bus && place.unit === unit,
    );
  }
}

function defaultName({ interface: kind, bus, unit, isCdrom }: DrivePlace): string {
  const media = kind === "ide" || kind === "scsi" ? (isCdrom ? "-cd" : "-hd") : "";
  return unitsPerBus[kind] === undefined ? `${kind}${media}${unit}` : `${kind}${bus}${media}${unit}`;
}
