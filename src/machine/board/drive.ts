/**
 * A drive: what a guest's device sits over. It has a block backend, with a name if it came from `-drive`, and may be empty; the
 * device (device.ts), while there is one, says which permissions the backend takes.
 * Source: behaviour of QEMU 7.2's BlockBackend and blockdev.c.
 */
import { CommandError } from "../../base/errors.ts";
import { BlockBackend } from "../../block/graph/backend.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { Permissions } from "../../block/model/contract.ts";
import { drained } from "../../block/model/drain.ts";
import { Perm } from "../../block/model/permissions.ts";
import {
  applyLimits,
  limitsOf,
  throttleBuckets,
  type ThrottleLimits,
  unlimited,
} from "../../block/throttle/config.ts";
import { throttleGroupsOf } from "../../block/throttle/throttle.ts";
import type { OnError } from "../../job/core/error-policy.ts";
import { type AccountClock, type Counting, defaultCounting, DriveAccount } from "./account.ts";
import { type DeviceModel, deviceModel, flash } from "./models.ts";

/** The buses that `-drive if=` names. */
export const driveInterfaces = [
  "none",
  "ide",
  "scsi",
  "floppy",
  "pflash",
  "mtd",
  "sd",
  "virtio",
  "xen",
] as const;

/** One of them. */
export type DriveInterface = (typeof driveInterfaces)[number];

/** Where a drive of `-drive` is to be connected. */
export interface DrivePlace {
  readonly interface: DriveInterface;
  readonly bus: number;
  readonly unit: number;
  readonly isCdrom: boolean;
}

/** What a drive is made of. */
export interface DriveInit {
  /** Unique; empty for a drive that a device made over a node. */
  readonly name: string;
  readonly place?: DrivePlace;
  readonly rerror?: OnError;
  readonly werror?: OnError;
  readonly readOnly?: boolean;
  readonly writeCache?: boolean;
  readonly counting?: Counting | undefined;
}

/** The device that uses a drive, as the drive sees it. */
export interface DriveUser {
  /** What query-block calls it: an id, or a path. */
  readonly backendPath: string;
  readonly isRemovable: boolean;
  permissionsFor(node: BlockNode): Permissions;
}

/** A drive. */
export class Drive {
  readonly name: string;
  readonly place: DrivePlace | undefined;
  readonly backend: BlockBackend;
  rerror: OnError;
  werror: OnError;
  /** Media that are put in later are opened so. */
  readOnly: boolean;
  user: DriveUser | undefined;
  isTrayOpen = false;
  /** What was asked of it: there is no guest, but somebody may act for one. */
  readonly account: DriveAccount;
  /** Its name is nobody's any more. */
  isForgotten = false;
  #isFilling = false;

  constructor(graph: BlockGraph, init: DriveInit, clock: () => AccountClock) {
    this.name = init.name;
    this.account = new DriveAccount(init.counting ?? defaultCounting, clock);
    this.place = init.place;
    this.rerror = init.rerror ?? "report";
    this.werror = init.werror ?? "enospc";
    this.readOnly = init.readOnly ?? false;
    this.backend = new BlockBackend(graph, init.name);
    this.backend.writeCache = init.writeCache ?? true;
  }

  get node(): BlockNode | undefined {
    return this.backend.node;
  }

  /** Puts a node in. Throws EPERM in QEMU's words where its other users don't allow it. */
  async insert(node: BlockNode): Promise<void> {
    this.#isFilling = true;
    try {
      await this.backend.attach(node, this.#permissions(node));
    } finally {
      this.#isFilling = false;
    }
  }

  /** Whether there is a node in it, or one is just being put in. */
  get isTaken(): boolean {
    return this.#isFilling || this.node !== undefined;
  }

  /** Takes the node out, after its requests; it closes if nobody else uses it. */
  async remove(): Promise<void> {
    const { node } = this;
    if (node) await drained([node], () => this.backend.detach());
  }

  /** Throws CommandError where a device has it; `before` stands before the words. */
  checkFree(before = ""): void {
    if (this.user) throw new CommandError(before + this.#inUse());
  }

  /** Connects a device. Throws CommandError where the drive has one. */
  async connect(user: DriveUser): Promise<void> {
    this.checkFree();
    this.user = user;
    try {
      await this.#refresh();
    } catch (error) {
      this.user = undefined;
      throw error;
    }
  }

  /** The device is gone. */
  async disconnect(): Promise<void> {
    this.user = undefined;
    this.isTrayOpen = false;
    await this.#refresh();
  }

  #inUse(): string {
    const connected = this.place !== undefined && this.place.interface !== "none";
    return connected
      ? `Drive '${this.name}' is already in use because it has been automatically connected to another device (did you need 'if=none' in the drive options?)`
      : `Drive '${this.name}' is already in use by another device`;
  }

  /**
   * Holds the guest's requests back by these limits, and no others, within a group that drives share (default: of the drive's own
   * name; of old limits, the one it is in). Without any limit it is in no group. Throws EINVAL.
   */
  limit(limits: ThrottleLimits, group?: string): void {
    const config = applyLimits(unlimited(), limits);
    const groups = throttleGroupsOf(this.backend.graph);
    const { throttle: before } = this.backend;
    const isLimited = throttleBuckets.some((name) => config.buckets[name].average > 0);
    if (before && (!isLimited || (group !== undefined && group !== before.group.name))) {
      this.backend.throttle = undefined;
      groups.leave(before);
    }
    if (!isLimited) return;
    this.backend.throttle ??= groups.join(group ?? (this.name || (this.user?.backendPath ?? "")));
    this.backend.throttle.group.configure(limitsOf(config));
  }

  /** Nothing is held back any more. */
  unlimit(): void {
    this.limit({});
  }

  async #refresh(): Promise<void> {
    const { root } = this.backend;
    if (root) await this.backend.graph.setPermissions(root, this.#permissions(root.node));
  }

  /** Without a device a drive minds nobody; who writes to it takes the right to. */
  #permissions(node: BlockNode): Permissions {
    if (this.user) return this.user.permissionsFor(node);
    return { perm: this.name === "" ? 0 : Perm.consistentRead, shared: Perm.all };
  }
}

/** The model that a place gets; undefined where the machine has none such. */
export function modelFor({ interface: kind, bus, unit, isCdrom }: DrivePlace): DeviceModel | undefined {
  if (kind === "virtio") return deviceModel("virtio-blk-pci");
  const isOneOfTwo = bus === 0 && unit < 2;
  if (kind === "floppy") return isOneOfTwo ? deviceModel("floppy") : undefined;
  if (kind === "pflash") return isOneOfTwo ? flash : undefined;
  if (kind !== "ide" || bus > 1) return undefined;
  return deviceModel(isCdrom ? "ide-cd" : "ide-hd");
}
