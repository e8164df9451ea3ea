/**
 * A device without a guest behind it: it holds a drive, takes the permissions that its model needs, and has the policies and the
 * status that jobs and queries look at. Source: behaviour of QEMU 7.2's device models.
 */
import { CommandError } from "../../base/errors.ts";
import type { Permissions } from "../../block/model/contract.ts";
import type { Account, BlockNode } from "../../block/model/node.ts";
import { Perm } from "../../block/model/permissions.ts";
import { announceDevicePolicy } from "../../job/core/device-policy.ts";
import type { IoStatus, OnError } from "../../job/core/error-policy.ts";
import type { BlockBackend } from "../../block/graph/backend.ts";
import type { GuestFailure, PluggedDevice } from "../machine.ts";
import type { Bus, Place } from "./buses.ts";
import type { Drive, DriveUser } from "./drive.ts";
import type { DeviceModel, DriveModel } from "./models.ts";

/** What a device is. */
export interface BoardDeviceInit {
  readonly model: DeviceModel;
  /** Empty: it has none. */
  readonly id: string;
  readonly path: string;
  readonly bus: Bus;
  readonly properties: Readonly<Record<string, unknown>>;
}

/** A device on a bus. */
export class BoardDevice {
  readonly model: DeviceModel;
  readonly id: string;
  readonly path: string;
  readonly bus: Bus;
  readonly properties: Readonly<Record<string, unknown>>;
  /** Where it is on its bus. */
  place: Place = { key: 0, told: {} };
  /** The bus that it has. */
  provides: Bus | undefined;
  disk: BoardDisk | undefined;
  /** device_del was asked for, and waits for a reset. */
  isLeaving = false;

  constructor(init: BoardDeviceInit) {
    this.model = init.model;
    this.id = init.id;
    this.path = init.path;
    this.bus = init.bus;
    this.properties = init.properties;
  }
}

/** What query-block calls a device: a virtio proxy holds the one that has the disk. */
export function backendPath({ model, path, id }: BoardDevice): string {
  return model.drive?.type === "virtio-blk-device" ? `${path}/virtio-backend` : id || path;
}

/** The disk of a device. */
export class BoardDisk implements DriveUser, PluggedDevice {
  readonly drive: Drive;
  readonly rerror: OnError;
  readonly werror: OnError;
  readonly backendPath: string;
  readonly isRemovable: boolean;
  readonly lastFailure: GuestFailure | undefined = undefined;
  readonly ioStatus: IoStatus = "ok";
  readonly #model: DriveModel;
  readonly #shareWrites: boolean;

  constructor(device: BoardDevice, drive: Drive, model: DriveModel) {
    this.drive = drive;
    this.#model = model;
    this.backendPath = backendPath(device);
    const { properties } = device;
    this.isRemovable = model.isRemovable || isOn(properties["removable"]);
    this.#shareWrites = isOn(properties["share-rw"]);
    this.rerror = policy(properties["rerror"], drive.rerror);
    this.werror = policy(properties["werror"], drive.werror);
    const cache = properties["write-cache"];
    if (cache !== undefined && cache !== "auto") drive.backend.writeCache = isOn(cache);
  }

  get name(): string {
    return this.drive.name;
  }

  get backend(): BlockBackend {
    return this.drive.backend;
  }

  get account(): Account {
    return this.drive.account;
  }

  get hasTray(): boolean {
    return this.#model.hasTray ?? this.isRemovable !== this.#model.isRemovable;
  }

  get iostatusEnabled(): boolean {
    if (!this.#model.keepsIoStatus) return false;
    return this.werror === "enospc" || this.werror === "stop" || this.rerror === "stop";
  }

  /** There is no guest whose errors could be forgotten. */
  resetIoStatus(): void {
    return undefined;
  }

  permissionsFor(node: BlockNode): Permissions {
    if (node.readOnly && !this.#model.takesReadOnly) throw new CommandError("Block node is read-only");
    const writes = !this.#model.onlyReads && !node.readOnly && !this.drive.readOnly;
    // Only the length of a disk may change under its guest.
    const shared = Perm.consistentRead | Perm.writeUnchanged | (this.isRemovable ? 0 : Perm.resize);
    return {
      perm: Perm.consistentRead | (writes ? Perm.write : 0),
      shared: this.#shareWrites ? shared | Perm.write : shared,
    };
  }

  /** Takes the drive. Throws CommandError in QEMU's words. */
  async plug(): Promise<void> {
    if (!this.drive.node && !this.isRemovable)
      throw new CommandError("Device needs media, but drive is empty");
    await this.drive.connect(this);
    announceDevicePolicy(this.backend, this);
  }

  async unplug(): Promise<void> {
    await this.drive.disconnect();
  }
}

function policy(value: unknown, otherwise: OnError): OnError {
  return value === undefined || value === "auto" ? otherwise : (value as OnError);
}

/** Whether a property of truth, as JSON or as a word, is true. */
export function isOn(value: unknown): boolean {
  return value === true || value === "on" || value === "yes" || value === "true" || value === "y";
}

/** The value of a property as a word: JSON may give numbers and truth values. */
export function propertyWord(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
