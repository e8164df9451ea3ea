/**
 * The header of a LUKS1 volume: 592 bytes, big endian, followed by the key material of eight slots. Everything is checked
 * before it is used; the words are those of QEMU 7.2, with further limits on what costs time.
 * Source: LUKS1 on-disk format specification 1.2.3, section 4.1.
 */
import { ImageError } from "../base/errors.ts";
import { limits, SECTOR_SIZE } from "../base/limits.ts";

/** Bytes of the header itself. */
export const HEADER_BYTES = 592;
/** Where key material may begin, and what each slot's is aligned to, sectors. */
export const HEADER_SECTORS = 8;
/** Slots of a header, and the stripes of each. */
export const SLOTS = 8;
/** Stripes of every slot's key material. */
export const STRIPES = 4000;
/** Bytes of a salt and of the master key's digest. */
export const SALT_BYTES = 32;
/** Bytes of the digest that tells whether a master key is the right one. */
export const DIGEST_BYTES = 20;

const MAGIC = [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe];
const ENABLED = 0x00ac71f3;
const DISABLED = 0x0000dead;
const FIRST_SLOT = 208;
const SLOT_BYTES = 48;

/** A key slot: the master key under one passphrase. */
export interface KeySlot {
  active: boolean;
  iterations: number;
  salt: Uint8Array;
  /** Where its key material begins. */
  keySector: number;
}

/** A header in memory. */
export interface LuksHeader {
  readonly cipherName: string;
  /** Mode, IV generator and its hash, as in `cbc-essiv:sha256`. */
  readonly cipherMode: string;
  readonly hash: string;
  readonly payloadSector: number;
  readonly keyBytes: number;
  digest: Uint8Array;
  digestSalt: Uint8Array;
  digestIterations: number;
  readonly uuid: string;
  readonly slots: readonly KeySlot[];
}

function fail(field: string, message: string): never {
  throw new ImageError({ structure: "LUKS header", field, message });
}

/** Whether a file that starts with `head` is a LUKS1 volume. */
export function isLuks1(head: Uint8Array): boolean {
  return (
    head.byteLength >= 8 && MAGIC.every((byte, at) => head[at] === byte) && head[6] === 0 && head[7] === 1
  );
}

/** Sectors of one slot's key material for a key of that many bytes, as far as they are written. */
export function materialSectors(keyBytes: number): number {
  return Math.ceil((keyBytes * STRIPES) / SECTOR_SIZE);
}

/** The distance of one slot's key material to the next, sectors. */
export function slotSectors(keyBytes: number): number {
  return Math.ceil(materialSectors(keyBytes) / HEADER_SECTORS) * HEADER_SECTORS;
}

function text(bytes: Uint8Array, field: string, name: string): string {
  const end = bytes.indexOf(0);
  if (end < 0) fail(field, `LUKS header ${name} is not NUL terminated`);
  return new TextDecoder().decode(bytes.subarray(0, end));
}

function parseSlots(bytes: Uint8Array, view: DataView): KeySlot[] {
  return Array.from({ length: SLOTS }, (_, index) => {
    const at = FIRST_SLOT + index * SLOT_BYTES;
    const state = view.getUint32(at);
    const slot: KeySlot = {
      active: state === ENABLED,
      iterations: view.getUint32(at + 4),
      salt: bytes.slice(at + 8, at + 8 + SALT_BYTES),
      keySector: view.getUint32(at + 40),
    };
    const stripes = view.getInt32(at + 44);
    if (stripes !== STRIPES) {
      fail("stripes", `Keyslot ${index} is corrupted (stripes ${stripes} != ${STRIPES})`);
    }
    if (slot.keySector < HEADER_SECTORS) {
      fail("key-material-offset", `Keyslot ${index} is overlapping with the LUKS header`);
    }
    if (state !== ENABLED && state !== DISABLED) {
      fail("active", `Keyslot ${index} state (active/disable) is corrupted`);
    }
    if (slot.active && slot.iterations === 0) fail("iterations", `Keyslot ${index} iteration count is zero`);
    return slot;
  });
}

/** The iterations that a passphrase costs which opens no slot: each slot's own, and the digest's after each. */
export function iterationsOfAllSlots({ slots, digestIterations }: LuksHeader): number {
  const active = slots.filter((slot) => slot.active);
  return active.reduce((sum, slot) => sum + slot.iterations + digestIterations, 0);
}

/** Before a key is derived: whoever made the header says how long that takes. */
function checkIterations(header: LuksHeader): void {
  if (header.digestIterations === 0) fail("iterations", "LUKS key iteration count is zero");
  const iterations = iterationsOfAllSlots(header);
  if (iterations <= limits.luksMaxIterations) return;
  const most = `${limits.luksMaxIterations} (limits.luksMaxIterations)`;
  fail(
    "iterations",
    `The key slots in use ask for ${iterations} iterations together, which is above ${most}`,
  );
}

function checkPlaces({ slots, keyBytes, payloadSector }: LuksHeader, isDetached: boolean): void {
  const length = materialSectors(keyBytes);
  slots.forEach((slot, index) => {
    if (!isDetached && slot.keySector + length > payloadSector) {
      fail("key-material-offset", `Keyslot ${index} is overlapping with the encrypted payload`);
    }
    slots.slice(index + 1).forEach((other, next) => {
      if (slot.keySector + length <= other.keySector || other.keySector + length <= slot.keySector) return;
      const pair = `Keyslots ${index} and ${index + 1 + next}`;
      fail("key-material-offset", `${pair} are overlapping in the header`);
    });
  });
}

/** Parses HEADER_BYTES bytes; detached: of a header whose payload lies elsewhere, and may begin anywhere. Throws ImageError. */
export function parseLuksHeader(bytes: Uint8Array, isDetached = false): LuksHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!MAGIC.every((byte, at) => bytes[at] === byte)) fail("magic", "Volume is not in LUKS format");
  const version = view.getUint16(6);
  if (version !== 1) fail("version", `LUKS version ${version} is not supported`);
  const cipherName = text(bytes.subarray(8, 40), "cipher-name", "cipher name");
  const cipherMode = text(bytes.subarray(40, 72), "cipher-mode", "cipher mode");
  const hash = text(bytes.subarray(72, 104), "hash-spec", "hash spec");
  const payloadSector = view.getUint32(104);
  if (!isDetached && payloadSector < HEADER_SECTORS)
    fail("payload-offset", "LUKS payload is overlapping with the header");
  const uuid = bytes.subarray(168, FIRST_SLOT);
  const end = uuid.indexOf(0);
  const header: LuksHeader = {
    cipherName,
    cipherMode,
    hash,
    payloadSector,
    keyBytes: view.getUint32(108),
    digest: bytes.slice(112, 112 + DIGEST_BYTES),
    digestSalt: bytes.slice(132, 132 + SALT_BYTES),
    digestIterations: view.getUint32(164),
    uuid: new TextDecoder().decode(end < 0 ? uuid : uuid.subarray(0, end)),
    slots: parseSlots(bytes, view),
  };
  checkPlaces(header, isDetached);
  checkIterations(header);
  return header;
}

/** The header's bytes. */
export function serializeLuksHeader(header: LuksHeader): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  const put = (value: string, at: number): void => bytes.set(new TextEncoder().encode(value), at);
  bytes.set(MAGIC);
  view.setUint16(6, 1);
  put(header.cipherName, 8);
  put(header.cipherMode, 40);
  put(header.hash, 72);
  view.setUint32(104, header.payloadSector);
  view.setUint32(108, header.keyBytes);
  bytes.set(header.digest, 112);
  bytes.set(header.digestSalt, 132);
  view.setUint32(164, header.digestIterations);
  put(header.uuid, 168);
  header.slots.forEach((slot, index) => {
    const at = FIRST_SLOT + index * SLOT_BYTES;
    view.setUint32(at, slot.active ? ENABLED : DISABLED);
    view.setUint32(at + 4, slot.iterations);
    bytes.set(slot.salt, at + 8);
    view.setUint32(at + 40, slot.keySector);
    view.setUint32(at + 44, STRIPES);
  });
  return bytes;
}
