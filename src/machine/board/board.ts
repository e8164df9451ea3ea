/**
 * The front of a machine without a CPU: its drives, buses and devices, as `-drive`, `-device`, device_add and device_del make and
 * unmake them. Invariants: a drive has one device at most; a device's place on its bus is taken as long as it is there.
 * Source: behaviour of QEMU 7.2's blockdev.c and qdev-monitor.c.
 */
import { CommandError } from "../../base/errors.ts";
import type { EventBus } from "../../base/event-bus.ts";
import type { MachineEvent } from "../../wire/qapi/machine/table.ts";
import type { AccountClock } from "./account.ts";
import { BlockJob } from "../../job/core/block-job.ts";
import type { Engine } from "../engine.ts";
import { type Bus, findBus, firstBuses } from "./buses.ts";
import { backendPath, BoardDevice, BoardDisk, propertyWord } from "./device.ts";
import { Drive, type DriveInit, type DrivePlace, modelFor } from "./drive.ts";
import { type GlobalProperty, globalsFor } from "./globals.ts";
import { checkProperties, type DeviceModel, deviceModel } from "./models.ts";
import { placeFor } from "./places.ts";
import { checkValues } from "./values.ts";

const IDENTIFIER = /^[A-Za-z][A-Za-z0-9._-]*$/;

/** Throws CommandError for a path of what is no device. */
function checkHotpluggable(path: string): void {
  if (path === "" || /^\/(objects|machine(\/(unattached|peripheral|peripheral-anon))?)?$/.test(path))
    throw new CommandError(`${path} is not a hotpluggable device`);
}

/** What device_add and `-device` give: the model's name, where it goes, and its properties. */
export interface DeviceWish {
  readonly driver: string;
  readonly id?: string | undefined;
  readonly bus?: string | undefined;
  readonly properties: Readonly<Record<string, unknown>>;
}

/** The board. */
export class Board {
  readonly engine: Engine;
  /** In the order in which they were made; those without a name too, while a device has them. */
  readonly drives = new Set<Drive>();
  readonly devices = new Set<BoardDevice>();
  readonly buses: Bus[];
  /** It is a `pc`; else it has nothing of its own. */
  readonly hasChips: boolean;
  /** Devices that a `pc` has before its first floppy drive, as its paths count them, and then before its first IDE drive. */
  builtIn = { floppy: 13, ide: 5 };
  #anonymous = 0;
  #floppies = 0;
  #disks = 0;

  /** `-global`: of every device of a type. */
  readonly globals: GlobalProperty[] = [];
  /** By which requests are counted. */
  clock: AccountClock;

  /** The engine's events, to which the machine adds its own. */
  readonly events: EventBus<MachineEvent>;

  constructor(engine: Engine, { hasChips = true }: { hasChips?: boolean } = {}) {
    this.engine = engine;
    this.hasChips = hasChips;
    this.buses = firstBuses(hasChips);
    this.clock = engine.graph.host.clock;
    // One bus for the monitors; the library's types know only what every engine sends.
    this.events = engine.graph.events as unknown as EventBus<MachineEvent>;
    engine.graph.iothreadOf = (user) => this.#iothreadOf(user);
  }

  /** The iothread in which the device of a backend works: its own, or its controller's; undefined: none. */
  #iothreadOf(user: object): string | undefined {
    const device = [...this.devices].find(({ disk }) => disk?.backend === user);
    if (!device) return undefined;
    const controller = [...this.devices].find(({ provides }) => provides === device.bus);
    const name = device.properties["iothread"] ?? controller?.properties["iothread"];
    return typeof name === "string" && name !== "" ? name : undefined;
  }

  /** Makes a drive, empty. Throws CommandError where the name is no good or taken. */
  addDrive(init: DriveInit): Drive {
    const { graph } = this.engine;
    if (init.name !== "" && !IDENTIFIER.test(init.name))
      throw new CommandError("Parameter 'id' expects an identifier");
    if (init.name !== "" && graph.backends.has(init.name))
      throw new CommandError(`Device with id '${init.name}' already exists`);
    if (init.name !== "" && graph.findNode(init.name))
      throw new CommandError(`Device name '${init.name}' conflicts with an existing node name`);
    const drive = new Drive(graph, init, () => this.clock);
    this.drives.add(drive);
    return drive;
  }

  /** Removes a drive that no device has. */
  async removeDrive(drive: Drive): Promise<void> {
    this.drives.delete(drive);
    drive.unlimit();
    await drive.backend.close();
  }

  /** drive_del: the name is free again; a device that has the drive keeps it, empty. */
  async forgetName(drive: Drive): Promise<void> {
    this.engine.graph.backends.delete(drive.name);
    drive.isForgotten = true;
    if (!drive.user) await this.removeDrive(drive);
  }

  /** The drive of that name. */
  drive(name: string): Drive | undefined {
    return name === ""
      ? undefined
      : [...this.drives].find((drive) => drive.name === name && !drive.isForgotten);
  }

  /** The device of an id or a path; a virtio proxy is also meant by the path of what it holds. */
  device(name: string): BoardDevice | undefined {
    return [...this.devices].find(
      ({ id, path, disk }) => (id !== "" && id === name) || path === name || disk?.backendPath === name,
    );
  }

  /** The drive behind a device or of a name, as commands on media name it. Throws CommandError. */
  driveOf({ device, id }: { device?: string | undefined; id?: string | undefined }): Drive {
    if ((device === undefined) === (id === undefined))
      throw new CommandError("Need exactly one of 'device' and 'id'");
    if (id !== undefined) checkHotpluggable(id);
    if (id === undefined) {
      const drive = this.drive(device!);
      if (!drive) throw new CommandError(`Device '${device}' not found`, { qmpClass: "DeviceNotFound" });
      return drive;
    }
    const found = this.device(id);
    if (!found) throw new CommandError(`Device '${id}' not found`, { qmpClass: "DeviceNotFound" });
    // A virtio proxy has none: what it holds does.
    const isProxy = found.disk?.backendPath.startsWith(`${found.path}/`) && id !== found.disk.backendPath;
    if (!found.disk || isProxy) throw new CommandError("Device does not have a block device backend");
    return found.disk.drive;
  }

  /** device_add. Throws CommandError in QEMU's words; then nothing has changed. */
  async addDevice(wish: DeviceWish): Promise<BoardDevice> {
    const model = deviceModel(wish.driver);
    if (!model) throw new CommandError(`'${wish.driver}' is not a valid device model name`);
    const id = this.#checkId(wish.id);
    const path =
      id === "" ? `/machine/peripheral-anon/device[${this.#anonymous}]` : `/machine/peripheral/${id}`;
    const device = await this.#make(model, wish, { id, path });
    if (id === "") this.#anonymous += 1;
    return device;
  }

  async #make(
    model: DeviceModel,
    { bus: name, properties: given }: Pick<DeviceWish, "bus" | "properties">,
    named: { id: string; path: string },
  ): Promise<BoardDevice> {
    const bus = findBus(this.buses, model.bus, { model: model.name, name });
    const common = globalsFor(model, this.globals);
    checkProperties(model, given);
    if (common["drive"] !== undefined && given["drive"] !== undefined)
      throw new CommandError(
        `-global ${model.name}.drive=... conflicts with drive=${propertyWord(given["drive"])}`,
      );
    const properties = { ...common, ...given };
    checkValues(model, properties);
    this.#checkLinks(properties);
    const device = new BoardDevice({ ...named, model, bus, properties });
    const drive = model.drive ? await this.#driveFor(device, properties["drive"]) : undefined;
    const isCommon = common["drive"] !== undefined;
    drive?.checkFree(isCommon ? `can't apply global ${model.name}.drive=${drive.name}: ` : "");
    try {
      device.place = placeFor(bus, model.name, properties);
      if (drive && model.drive) {
        device.disk = new BoardDisk(device, drive, model.drive);
        await device.disk.plug();
      }
    } catch (error) {
      if (drive?.name === "") await this.removeDrive(drive);
      throw error;
    }
    this.#place(device);
    return device;
  }

  /** Throws CommandError for an iothread that there is not, and for a place in the order of boot that another device has. */
  #checkLinks({ iothread, bootindex }: Readonly<Record<string, unknown>>): void {
    if (typeof iothread === "string" && iothread !== "") {
      const id = iothread.replace(/^\/objects\//, "");
      const found = this.engine.objects.list().find(({ name }) => name === id);
      if (!found) throw new CommandError(`Device '${iothread}' not found`, { qmpClass: "DeviceNotFound" });
      if (found.type !== "child<iothread>")
        throw new CommandError("Invalid parameter type for 'iothread', expected: iothread");
    }
    if (bootindex === undefined || Number(bootindex) < 0) return;
    if ([...this.devices].some(({ properties }) => Number(properties["bootindex"]) === Number(bootindex)))
      throw new CommandError(`The bootindex ${Number(bootindex)} has already been used`);
  }

  #checkId(id: string | undefined): string {
    if (id === undefined) return "";
    if (!IDENTIFIER.test(id)) throw new CommandError("Parameter 'id' expects an identifier");
    if ([...this.devices].some((device) => device.id === id))
      throw new CommandError(`Duplicate device ID '${id}'`);
    return id;
  }

  #place(device: BoardDevice): void {
    const { model, bus, disk, id, place } = device;
    bus.taken.set(place.key, { model: model.name, id });
    this.devices.add(device);
    if (disk) this.engine.machine.devices.add(disk);
    if (!model.provides) return;
    const { kind, slots, luns = 1 } = model.provides;
    const name = id === "" ? this.#busName(kind) : kind === "PCI" ? id : `${id}.0`;
    device.provides = { name, kind, slots, luns, taken: new Map() };
    this.buses.push(device.provides);
  }

  /** `scsi.0`, `scsi.1` … for buses of devices without an id. */
  #busName(kind: string): string {
    const prefix = kind.toLowerCase();
    for (let at = 0; ; at++) {
      const name = `${prefix}.${at}`;
      if (!this.buses.some((bus) => bus.name === name)) return name;
    }
  }

  /** The drive that a device's property names, a drive over the node that it names, or an empty one. */
  async #driveFor(device: BoardDevice, value: unknown): Promise<Drive> {
    const { model } = device;
    const { type, missing } = model.drive!;
    if (value === undefined || value === "") {
      if (missing !== undefined) throw new CommandError(missing);
      return this.addDrive({ name: "" });
    }
    const name = propertyWord(value);
    const drive = this.drive(name);
    if (drive) return drive;
    const node = this.engine.graph.findNode(name);
    if (!node) throw new CommandError(`Property '${type}.drive' can't find value '${name}'`);
    const made = this.addDrive({ name: "" });
    made.backend.describe = () => `block device '${backendPath(device)}'`;
    try {
      await made.insert(node);
    } catch (error) {
      await this.removeDrive(made);
      throw error;
    }
    return made;
  }

  /** Gives a drive that names a bus its device. Throws CommandError. */
  async connectDrive(drive: Drive): Promise<void> {
    const { place, name } = drive;
    const model = place && modelFor(place);
    if (!place || place.interface === "none") return;
    if (!model)
      throw new CommandError(
        `machine type does not support if=${place.interface},bus=${place.bus},unit=${place.unit}`,
      );
    if (drive.user) return drive.connect(drive.user);
    const properties = { drive: name };
    // Of these alone QEMU makes a `-device` of its own.
    if (place.interface === "virtio") {
      await this.addDevice({ driver: model.name, properties });
      return;
    }
    const bus = place.interface === "ide" ? `ide.${place.bus}` : undefined;
    const isFlash = place.interface === "pflash";
    const path = isFlash ? `system.flash${place.unit}` : `unattached/device[${this.#number(place)}]`;
    const at = isFlash ? {} : { unit: place.unit };
    await this.#make(
      model,
      { bus, properties: { ...properties, ...at } },
      { id: "", path: `/machine/${path}` },
    );
    if (place.interface === "floppy") this.#floppies += 1;
    else if (!isFlash) this.#disks += 1;
  }

  /** The number of a device that the machine makes itself. */
  #number({ interface: kind }: DrivePlace): number {
    const { floppy, ide } = this.builtIn;
    return floppy + this.#floppies + (kind === "floppy" ? 0 : ide + this.#disks);
  }

  /** device_del. Throws CommandError. What a guest would have to let go of stays until the machine is reset. */
  async removeDevice(name: string): Promise<void> {
    checkHotpluggable(name);
    const device = this.device(name);
    if (!device) throw new CommandError(`Device '${name}' not found`, { qmpClass: "DeviceNotFound" });
    if (device.disk?.drive.place) this.#cancelJobs(device.disk.drive);
    if (!device.model.leavesAtReset) return this.#take(device);
    if (device.isLeaving) throw new CommandError(`Device ${device.id} is already in the process of unplug`);
    device.isLeaving = true;
  }

  /** A drive that goes with its device takes the jobs on it along. */
  #cancelJobs({ node }: Drive): void {
    for (const job of [...this.engine.jobs.jobs])
      if (
        job instanceof BlockJob &&
        job.nodes.some((edge) => edge.node === node || edge.node === node?.filtered?.node)
      )
        void job.cancel({ force: true }).catch(() => undefined);
  }

  /** system_reset: what was asked to leave goes. */
  async reset(): Promise<void> {
    for (const device of [...this.devices]) if (device.isLeaving) await this.#take(device);
  }

  async #take(device: BoardDevice): Promise<void> {
    const { provides, bus, disk, id, path, place: taken } = device;
    for (const other of [...this.devices]) if (provides && other.bus === provides) await this.#take(other);
    if (provides) this.buses.splice(this.buses.indexOf(provides), 1);
    this.devices.delete(device);
    bus.taken.delete(taken.key);
    if (disk) {
      this.engine.machine.devices.delete(disk);
      await disk.unplug();
      // A drive goes with the device that it was made for.
      await this.removeDrive(disk.drive);
    }
    const { clock } = this.engine.graph.host;
    // The command is answered first.
    void clock.turn().then(() => {
      // The device within a virtio proxy goes first.
      if (disk && disk.backendPath !== (id || path)) this.#sayDeleted("", disk.backendPath);
      this.#sayDeleted(id, path);
    });
  }

  #sayDeleted(id: string, path: string): void {
    this.events.emit("DEVICE_DELETED", { ...(id === "" ? {} : { device: id }), path });
  }
}
