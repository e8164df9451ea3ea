/**
 * One run of the machine: its engine and board, what its options make, its monitors, and its end.
 */
import { setMaxListeners } from "node:events";
import { appendFileSync } from "node:fs";
import { CommandError, messageOf } from "../../base/errors.ts";
import type { HostConnection } from "../../base/host.ts";
import { throttleGroupsOf } from "../../block/throttle/throttle.ts";
import { type GateChoice, programEngine } from "../options/engine.ts";
import { Board } from "../../machine/board/board.ts";
import { checkFlash } from "../../machine/board/flash.ts";
import { propertyWord } from "../../machine/board/device.ts";
import { type Drive, driveInterfaces } from "../../machine/board/drive.ts";
import { fdSets } from "../../platform/node/fd-sets.ts";
import { monitorSockets } from "../../platform/node/sockets.ts";
import type { Engine } from "../../node.ts";
import { runHmp } from "../../server/monitor/hmp/run.ts";
import { serveHmp } from "../../server/monitor/hmp/serve.ts";
import { machineHmp, machineRegistry } from "../../server/monitor/machine/commands.ts";
import type { MachineIdentity } from "../../server/monitor/machine/queries.ts";
import { exportHandlers } from "../../server/nbd/commands.ts";
import { nbdControlOf } from "../../server/nbd/control.ts";
import { type QtestLog, serveQtest } from "../../server/qtest/serve.ts";
import { qemuRelease, qemuVersion } from "../../version.ts";
import {
  type CompatLevel,
  isJsonObject,
  parseChardev,
  parseJson,
  parseOption,
  schemaWith,
} from "../../wire/qapi/index.ts";
import { closeInTime } from "../daemon/close.ts";
import { CharacterDevices } from "../daemon/monitors.ts";
import { type QmpServer, serveQmp, tellFault } from "../daemon/qmp.ts";
import { printable } from "../printable.ts";
import { verbProgram } from "../program.ts";
import { imageText } from "../image-text.ts";
import { told } from "../refusal.ts";
import { snapshotRows } from "../snapshot-table.ts";
import { IoSessions } from "./console.ts";
import { addDescriptor } from "./descriptors.ts";
import { checkIdentifier } from "./drive-options.ts";
import { DriveMaker, formattingLine } from "./drives.ts";
import { readChardev } from "./legacy-chardev.ts";
import { takeFlag, takeOption, optionPairs } from "./opts.ts";
import { blaming, type GivenOption } from "./options.ts";
import { StillClock } from "./still-clock.ts";

type Ending = "SIGINT" | "SIGTERM" | "SIGHUP";

const signalNumbers: Readonly<Record<Ending, number>> = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 };

/** The drives that short options stand for. */
const shorthands: Readonly<Record<string, string>> = {
  ...{
    hda: "index=0,media=disk",
    hdb: "index=1,media=disk",
    hdc: "index=2,media=disk",
    hdd: "index=3,media=disk",
  },
  ...{ cdrom: "index=2,media=cdrom", fda: "if=floppy,index=0", fdb: "if=floppy,index=1" },
};

/** What a run is told. */
export interface MachineInit {
  readonly gate: GateChoice;
  /** Drives write into overlays that go with the machine. */
  readonly snapshot: boolean;
  /** The machine waits for `cont`. */
  readonly isPaused: boolean;
  /** The virtual clock stands still. */
  readonly isStill: boolean;
  readonly identity: MachineIdentity;
  readonly compat: CompatLevel;
  /** Where the test protocol is told: a file, `none`, or (undefined) stderr. */
  readonly qtestLog: string | undefined;
}

/** One run. */
export class MachineProgram {
  readonly #engine: Engine;
  readonly #board: Board;
  readonly #devices: CharacterDevices;
  readonly #drives: DriveMaker;
  readonly #served: QmpServer;
  readonly #stop = new AbortController();
  readonly #clock = new StillClock();
  readonly #io: IoSessions;
  readonly #identity: MachineIdentity;
  readonly #compat: CompatLevel;
  readonly #qtestLogPath: string | undefined;
  /** Drives with the options that made them, for messages about their devices. */
  readonly #made: { drive: Drive; option: GivenOption }[] = [];
  #closed: Promise<void> | undefined;
  readonly #isStill: boolean;
  #status = 0;
  #names = 0;
  #quit!: () => void;
  /** Resolves when the machine is asked to end. */
  readonly quitRequested: Promise<void>;

  constructor({ gate, snapshot, isPaused, isStill, identity, compat, qtestLog }: MachineInit) {
    // Each client waits for it.
    setMaxListeners(0, this.#stop.signal);
    this.quitRequested = new Promise((resolve) => {
      this.#quit = resolve;
    });
    this.#engine = programEngine({}, gate, compat);
    this.#engine.graph.isForGuests = true;
    this.#isStill = isStill;
    if (isPaused) this.#engine.machine.holdAtStart();
    this.#engine.graph.onTrouble = (words) =>
      void process.stderr.write(`${verbProgram("machine")}: ${printable(words)}\n`);
    this.#engine.graph.onNewImage = (image) =>
      void process.stdout.write(printable(formattingLine(this.#engine.graph, image)));
    this.#board = new Board(this.#engine);
    this.#devices = new CharacterDevices(monitorSockets);
    fdSets.isRunning = () => this.#engine.machine.isRunning;
    this.#drives = new DriveMaker(this.#board, { signal: this.#stop.signal, snapshot });
    this.#io = new IoSessions(this.#engine, this.#stop.signal);
    this.#identity = identity;
    this.#compat = compat;
    this.#qtestLogPath = qtestLog;
    nbdControlOf(this.#engine).onFault = (error) => tellFault("machine", error);
    const registry = machineRegistry(this.#commandOptions());
    const { signal } = this.#stop;
    const eventClock = isStill ? { eventClock: this.#clock } : {};
    this.#served = { verb: "machine", registry, engine: this.#engine, signal, ...eventClock };
  }

  #commandOptions(): Parameters<typeof machineRegistry>[0] {
    return {
      board: this.#board,
      more: exportHandlers,
      chardevs: this.#devices,
      descriptors: fdSets,
      identity: this.#identity,
      compat: this.#compat,
      openImage: (image) => this.#drives.openImage(image),
      version: qemuVersion,
      beforeQuit: () => {
        this.#sayShutdown("host-qmp-quit");
        return this.#closeEngine();
      },
      onQuit: () => this.#quit(),
      hmp: {
        qemuIo: (backend, line) => this.#io.run(backend, line),
        commit: (node) => this.#drives.commit(node),
        addDrive: async (text) => {
          const drive = await this.#drives.make(text);
          if (drive.place?.interface === "none") return "OK";
          const kind = driveInterfaces.indexOf(drive.place?.interface ?? "none");
          await this.#board.removeDrive(drive);
          throw new CommandError(`Can't hot-add drive to type ${kind}`);
        },
        addNode: (text) => this.#drives.makeNode(text),
        imageText,
        snapshotTable: snapshotRows,
        versionText: `${qemuRelease}`,
      },
    };
  }

  #sayShutdown(reason: "host-qmp-quit" | "host-signal"): void {
    this.#engine.graph.events.emit("SHUTDOWN", { guest: false, reason });
  }

  /** A signal asks for the end. */
  end(signal: Ending): void {
    const number = signalNumbers[signal];
    process.stderr.write(`${verbProgram("machine")}: terminating on signal ${number}\n`);
    this.#sayShutdown("host-signal");
    this.#quit();
  }

  /** Carries one option out. Throws with a message for the user. */
  async apply(option: GivenOption): Promise<void> {
    const { name, value = "" } = option;
    switch (name) {
      case "add-fd":
        return addDescriptor(value);
      case "chardev":
        return this.#devices.add(parseChardev(value));
      case "object":
        return this.#engine.objects.add(parseOption("ObjectOptions", value, { impliedKey: "qom-type" }));
      case "blockdev":
        return this.#addNode(value);
      case "device":
        return this.#addDevice(value);
      case "serial":
        return this.#addSerial(value);
      case "qtest":
        return this.#serveNamed(value, (connection) =>
          serveQtest(connection, { clock: this.#clock, signal: this.#stop.signal, log: this.#qtestLog() }),
        );
      case "mon":
        return this.#addMonitor(value);
      case "monitor":
        return this.#serveNamed(value, (connection) => this.#attendHmp(connection));
      case "qmp":
      case "qmp-pretty":
        return this.#serveNamed(value, (connection, interactive) =>
          this.#attendQmp(connection, { indent: name === "qmp" ? 0 : 4, interactive }),
        );
      default:
        this.#made.push({ drive: await this.#drives.make(this.#driveText(name, value)), option });
    }
  }

  /** QEMU tells all of the test protocol, and by default on stderr. */
  #qtestLog(): QtestLog | undefined {
    const path = this.#qtestLogPath;
    if (path === "none") return undefined;
    const began = performance.now();
    return (kind, words) => {
      const seconds = ((performance.now() - began) / 1000).toFixed(6);
      const line = printable(`[${kind} ${words === "OPENED" ? "" : "+"}${seconds}] ${words}`);
      if (path === undefined) process.stderr.write(`${line}\n`);
      else appendFileSync(path, `${line}\n`);
    };
  }

  #driveText(name: string, value: string): string {
    const short = shorthands[name];
    return short === undefined ? value : `file=${value.replaceAll(",", ",,")},${short}`;
  }

  async #addNode(value: string): Promise<void> {
    const table = schemaWith(this.#engine.graph.drivers);
    const spec = parseOption("BlockdevOptions", value, { impliedKey: "driver", table });
    await this.#engine.graph.add(spec);
  }

  async #addDevice(value: string): Promise<void> {
    const { driver, id, bus, ...properties } = readDevice(value);
    if (driver === undefined) throw new CommandError("Parameter 'driver' is missing");
    if (typeof id === "string" && !value.startsWith("{")) checkOptionsId(this.#board, id);
    await this.#board.addDevice({
      driver: propertyWord(driver),
      id: id === undefined ? undefined : propertyWord(id),
      bus: bus === undefined ? undefined : propertyWord(bus),
      properties,
    });
  }

  async #addSerial(value: string): Promise<void> {
    const named = readChardev(value, `serial${this.#names++}`);
    if (named.kind === "known" && !this.#devices.has(named.id))
      throw new CommandError(`could not connect serial device to character backend 'chardev:${named.id}'`);
    if (named.kind === "new") this.#devices.add(named.options);
    return Promise.resolve();
  }

  async #serveNamed(
    value: string,
    service: (connection: HostConnection, interactive: boolean) => Promise<void>,
  ): Promise<void> {
    const named = readChardev(value, `compat_monitor${this.#names++}`);
    if (named.kind === "none") return;
    if (named.kind === "new") this.#devices.add(named.options);
    await this.#devices.serve(named.kind === "new" ? named.options.id : named.id, service);
  }

  async #addMonitor(value: string): Promise<void> {
    const pairs = optionPairs(value, "chardev");
    const mode = takeOption(pairs, "mode") ?? "readline";
    const pretty = takeFlag(pairs, "pretty") ?? false;
    const id = takeOption(pairs, "chardev") ?? "";
    if (mode !== "readline" && mode !== "control") throw new CommandError(`unknown monitor mode "${mode}"`);
    await this.#devices.serve(id, (connection, interactive) =>
      mode === "readline"
        ? this.#attendHmp(connection)
        : this.#attendQmp(connection, { indent: pretty ? 4 : 0, interactive }),
    );
  }

  /** Gives the drives that name a bus their devices, on the board or in its slots; resolves with what went wrong, as of blaming(). */
  async connectDrives(where: "board" | "slots"): Promise<string | undefined> {
    try {
      checkFlash(this.#made.map(({ drive }) => drive));
    } catch (error) {
      return ` ${told(error).replaceAll("\n", `\n${verbProgram("machine")}: `)}`;
    }
    for (const { drive, option } of this.#made) {
      if ((drive.place?.interface === "virtio") !== (where === "slots")) continue;
      try {
        await this.#board.connectDrive(drive);
      } catch (error) {
        return blaming(option, told(error));
      }
    }
    return undefined;
  }

  /**
   * All options were carried out: answers those who have connected. Limits that they set later count by the virtual clock under qtest; those of
   * the options were there before the accelerator, as in QEMU 7.2, and count by the real one.
   */
  setUp(): void {
    if (this.#isStill) throttleGroupsOf(this.#engine.graph).countBy(this.#clock);
    this.#devices.setUp();
  }

  async #attendQmp(connection: HostConnection, how: { indent: number; interactive: boolean }): Promise<void> {
    await counted(serveQmp(connection, this.#served, how));
  }

  #attendHmp(connection: HostConnection): Promise<void> {
    const after: (() => void)[] = [];
    const context = { engine: this.#engine, afterReply: (callback: () => void) => void after.push(callback) };
    const host = machineHmp(this.#commandOptions(), this.#served.registry, context);
    const session = serveHmp(connection, {
      version: qemuRelease,
      signal: this.#stop.signal,
      run: async (line) => {
        try {
          return await runHmp(line, host);
        } catch (error) {
          tellFault("machine", error);
          return "";
        } finally {
          for (const callback of after.splice(0)) callback();
        }
      },
      isOver: () => this.#isOver,
    });
    return counted(session);
  }

  #isOver = false;

  /** Cancels jobs, closes images, then ends the monitors. Returns the exit status. */
  async close(): Promise<number> {
    this.#isOver = true;
    await this.#closeEngine();
    await this.#devices.stopListening();
    this.#stop.abort();
    await this.#devices.ended();
    return this.#status;
  }

  /** Cancels jobs and closes images, once. What fails is told line by line. */
  #closeEngine(): Promise<void> {
    this.#closed ??= closeInTime(this.#engine).catch((error: unknown) => {
      for (const line of messageOf(error).split("\n"))
        process.stderr.write(`${verbProgram("machine")}: ${line}\n`);
      this.#status = 1;
    });
    return this.#closed;
  }
}

/** A monitor's client, for as long as it is there: what descriptors it leaves unused are closed. */
async function counted(session: Promise<void>): Promise<void> {
  fdSets.monitorOpened();
  try {
    await session;
  } finally {
    fdSets.monitorClosed();
  }
}

/** Throws CommandError for an id that a group of options can't have. */
function checkOptionsId(board: Board, id: string): void {
  checkIdentifier(id);
  if (board.device(id)?.id === id) throw new CommandError(`Duplicate ID '${id}' for device`);
}

/** A device's description, as JSON or as key=value pairs, whose values are words. */
function readDevice(value: string): Record<string, unknown> {
  if (value.startsWith("{")) {
    const parsed = parseJson(value);
    if (!isJsonObject(parsed)) throw new CommandError("Invalid JSON object given");
    return { ...parsed };
  }
  return Object.fromEntries(optionPairs(value, "driver"));
}
