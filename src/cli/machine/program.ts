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
import { type Drive, driveInterfaces, modelFor } from "../../machine/board/drive.ts";
import { readGlobal } from "../../machine/board/globals.ts";
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
  parseChardev,
  parseOption,
  schema,
  schemaAt,
  schemaWith,
} from "../../wire/qapi/index.ts";
import { closeInTime } from "../daemon/close.ts";
import { CharacterDevices } from "../daemon/monitors.ts";
import { type QmpServer, serveQmp, tellFault } from "../daemon/qmp.ts";
import { loadAll } from "../../machine/board/snapshots.ts";
import { printable } from "../printable.ts";
import { verbProgram } from "../program.ts";
import { imageText } from "../image-text.ts";
import { told } from "../refusal.ts";
import { snapshotRows } from "../snapshot-table.ts";
import { IoSessions } from "./console.ts";
import { addDescriptor } from "./descriptors.ts";
import { checkIdentifier } from "./drive-options.ts";
import { DriveMaker, formattingLine } from "./drives.ts";
import { readChardev, UnknownChardev } from "./legacy-chardev.ts";
import { takeFlag, takeOption, optionPairs } from "./opts.ts";
import { objectOptions, readDevice } from "./descriptions.ts";
import { blaming, type GivenOption } from "./options.ts";
import { StillClock } from "./still-clock.ts";
import { tell, twice, Unlocated } from "./telling.ts";

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
  /** QMP may be on TCP, on loopback addresses. */
  readonly tcpMonitor: boolean;
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
  #serials = 0;
  readonly #monitors = new Set<string>();
  #quit!: () => void;
  /** What it has beside what options ask for. */
  defaults: { drives: readonly string[]; before: { floppy: number; ide: number } } = {
    drives: [],
    before: { floppy: 13, ide: 5 },
  };
  /** Resolves when the machine is asked to end. */
  readonly quitRequested: Promise<void>;

  constructor({ gate, snapshot, isPaused, isStill, identity, compat, qtestLog, tcpMonitor }: MachineInit) {
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
    this.#board = new Board(this.#engine, { hasChips: identity.machine === "pc" });
    this.#devices = new CharacterDevices(monitorSockets);
    this.#devices.allowTcp = tcpMonitor;
    fdSets.isRunning = () => this.#engine.machine.isRunning;
    this.#drives = new DriveMaker(this.#board, { signal: this.#stop.signal, snapshot });
    this.#io = new IoSessions(this.#board, this.#stop.signal);
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

  /** It can't be what it was to be: who has connected is greeted, and told no more. */
  async fail(): Promise<void> {
    this.#isOver = true;
    this.#stop.abort();
    this.#devices.setUp();
    await this.#devices.ended();
    await this.close();
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
      case "global":
        this.#board.globals.push(readGlobal(value, optionPairs));
        return;
      case "add-fd":
        return addDescriptor(value);
      case "chardev":
        return this.#devices.add(parseChardev(value), { isServed: option.isServed ?? false });
      case "object":
        return this.#addObject(value);
      case "blockdev":
        return this.#addNode(value);
      case "device":
        return this.#addDevice(value);
      case "serial":
        return this.#addSerial(option);
      case "qtest":
        return this.#serveNamed(option, (connection) =>
          serveQtest(connection, { clock: this.#clock, signal: this.#stop.signal, log: this.#qtestLog() }),
        );
      case "mon":
        return this.#addMonitor(value);
      case "monitor":
        return this.#serveNamed(option, (connection) => this.#attendHmp(connection));
      case "qmp":
      case "qmp-pretty":
        return this.#serveNamed(option, (connection, interactive) =>
          this.#attendQmp(connection, { indent: name === "qmp" ? 0 : 4, interactive }),
        );
      default:
        this.#made.push({
          drive: await this.#drives.make(this.#driveText(name, value), (words) =>
            tell(blaming(option, `warning: ${words}`)),
          ),
          option,
        });
    }
  }

  /** What is wrong with how it is written is told with the option, what is wrong with it without. */
  async #addObject(value: string): Promise<void> {
    const options = objectOptions(value);
    const { objects } = this.#engine;
    if (objects.list().some(({ name }) => name === options.id))
      throw new CommandError(`Duplicate ID '${options.id}' for object`);
    checkIdentifier(options.id);
    await objects.add(options).catch((error: unknown) => {
      throw new Unlocated(` ${told(error)}`);
    });
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

  /** Makes all disks what they were in a snapshot; resolves with what went wrong, after the program's name and a colon. */
  async load(snapshot: string): Promise<string | undefined> {
    try {
      await loadAll(this.#board, snapshot);
      return undefined;
    } catch (error) {
      return ` ${told(error)}`;
    }
  }

  async #addNode(value: string): Promise<void> {
    const table = schemaWith(this.#engine.graph.drivers, schemaAt(this.#compat, schema));
    const spec = parseOption("BlockdevOptions", value, { impliedKey: "driver", table });
    await this.#engine.graph.add(spec);
  }

  async #addDevice(value: string): Promise<void> {
    const { driver, id, bus, ...properties } = readDevice(value);
    if (driver === undefined || (value.startsWith("{") && typeof driver !== "string"))
      throw new CommandError("Parameter 'driver' is missing");
    await this.#board.addDevice({
      driver: propertyWord(driver),
      id: id === undefined ? undefined : propertyWord(id),
      bus: bus === undefined ? undefined : propertyWord(bus),
      properties,
    });
  }

  async #addSerial({ value = "", ...option }: GivenOption): Promise<void> {
    const more = `could not connect serial device to character backend '${value}'`;
    const named = await this.#named(value, { id: `serial${this.#serials}`, isServed: false }).catch(
      (error: unknown) => {
        throw twice(option, messageOf(error), blaming(option, more));
      },
    );
    if (named.kind !== "none") this.#serials += 1;
    if (named.kind === "known" && !this.#devices.has(named.id)) throw new CommandError(more);
  }

  /** Reads a character device's name and makes it, if it is a new one. Throws CommandError, QapiError. */
  async #named(
    value: string,
    { id, isServed }: { id: string; isServed: boolean },
  ): Promise<ReturnType<typeof readChardev>> {
    const named = readChardev(value, id);
    if (named.kind === "none" && isServed) throw new UnknownChardev("'none' is not a valid char driver");
    if (named.kind === "new") await this.#devices.add(named.options, { isServed });
    return named;
  }

  async #serveNamed(
    { value = "", ...option }: GivenOption,
    service: (connection: HostConnection, interactive: boolean) => Promise<void>,
  ): Promise<void> {
    const isTest = option.name === "qtest";
    if (value === "none" && option.name === "monitor") return;
    const id = isTest ? "qtest" : `compat_monitor${this.#names++}`;
    const named = await this.#named(value, { id, isServed: true }).catch((error: unknown) => {
      if (!(error instanceof UnknownChardev)) throw error;
      if (isTest) throw twice(undefined, error.message, ` Failed to initialize device for qtest: "${value}"`);
      throw twice(option, error.message, blaming(option, `parse error: ${value}`));
    });
    const isQmp = option.name.startsWith("qmp");
    await this.#devices.serve(named.kind === "known" ? named.id : id, service, { isQmp });
  }

  async #addMonitor(value: string): Promise<void> {
    const pairs = optionPairs(value, "chardev");
    const mode = takeOption(pairs, "mode") ?? "readline";
    const pretty = takeFlag(pairs, "pretty") ?? false;
    const id = takeOption(pairs, "chardev");
    const name = takeOption(pairs, "id");
    const [left] = pairs;
    if (left) throw new CommandError(`Invalid parameter '${left[0]}'`);
    if (name !== undefined && this.#monitors.has(name))
      throw new CommandError(`Duplicate ID '${name}' for mon`);
    if (name !== undefined) this.#monitors.add(name);
    if (mode !== "readline" && mode !== "control")
      throw new CommandError(`Parameter 'mode' does not accept value '${mode}'`);
    if (id === undefined) throw new CommandError("Parameter 'chardev' is missing");
    if (pretty && mode === "readline") throw new CommandError("'pretty' is not compatible with HMP monitors");
    const isQmp = mode === "control";
    const service = (connection: HostConnection, interactive: boolean): Promise<void> =>
      isQmp
        ? this.#attendQmp(connection, { indent: pretty ? 4 : 0, interactive })
        : this.#attendHmp(connection);
    await this.#devices.serve(id, service, { isQmp });
  }

  async #makeDefaults(): Promise<void> {
    const { drives, before } = this.defaults;
    this.#board.builtIn = before;
    for (const value of this.#board.hasChips ? drives : []) {
      const drive = await this.#drives.makeDefault(value);
      // There is no slot for a card.
      if (drive && drive.place?.interface !== "sd")
        this.#made.push({ drive, option: { name: "drive", value, words: "" } });
    }
  }

  /** Gives the drives that name a bus their devices, on the board or in its slots; resolves with what went wrong, as of blaming(). */
  async connectDrives(where: "board" | "slots"): Promise<string | undefined> {
    if (where === "board") await this.#makeDefaults();
    try {
      checkFlash(this.#made.map(({ drive }) => drive));
    } catch (error) {
      return ` ${told(error).replaceAll("\n", `\n${verbProgram("machine")}: `)}`;
    }
    for (const { drive, option } of this.#made.toSorted(byPlace)) {
      if ((drive.place?.interface === "virtio") !== (where === "slots")) continue;
      try {
        await this.#board.connectDrive(drive);
      } catch (error) {
        // Devices of the board are made for no option in particular.
        const isOrphan = drive.place && !modelFor(drive.place);
        return where === "slots" || isOrphan ? blaming(option, told(error)) : ` ${told(error)}`;
      }
    }
    return undefined;
  }

  /**
   * All options were carried out: answers those who have connected. Limits that they set later count by the virtual clock under qtest; those of
   * the options were there before the accelerator, as in QEMU 7.2, and count by the real one.
   */
  setUp(): void {
    if (this.#isStill) {
      throttleGroupsOf(this.#engine.graph).countBy(this.#clock);
      this.#board.clock = { nowMs: () => this.#clock.nowMs(), latencyMs: 1 };
    }
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

/** Floppy drives come first, and disks of a kind in the order of their places, not in that of options. */
function byPlace(
  { drive: { place: a } }: { drive: Drive },
  { drive: { place: b } }: { drive: Drive },
): number {
  const rank = (place: Drive["place"]): number =>
    place?.interface === "floppy"
      ? place.unit
      : place?.interface === "ide"
        ? 8 + 2 * place.bus + place.unit
        : 16;
  return rank(a) - rank(b);
}
