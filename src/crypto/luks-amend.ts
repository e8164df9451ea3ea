/**
 * Changing key slots: which slots an amend request means, and what it may not do.
 * Source: QAPI QCryptoBlockAmendOptionsLUKS; behaviour and words of QEMU 7.2.
 */
import type { KeySlot } from "./luks-header.ts";
import { eraseSlot, findMasterKey, type LuksContext, openSlot, storeKey } from "./luks-keys.ts";
import { countOption, iterTimeOption, optionFault, textOption } from "./luks-options.ts";
import type { Secrets } from "./secrets.ts";

/** What an amend request names, and who carries it out. */
export interface SlotChange {
  /** Wire names: state, new-secret, old-secret, keyslot, iter-time, secret. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Also what may lose access to the data. */
  readonly force: boolean;
  readonly secrets: Secrets;
  /** The secret that the volume was opened with. */
  readonly keySecret: string;
}

const NAMES = ["state", "new-secret", "old-secret", "keyslot", "iter-time", "secret"];

function slotOption({ options }: SlotChange, slots: readonly KeySlot[]): number | undefined {
  const index = countOption(options, "keyslot");
  if (index === undefined || slots[index] !== undefined) return index;
  // A negative number is shown as the unsigned one that QEMU makes of it.
  const words = `must be between 0 and ${slots.length - 1}`;
  throw optionFault(`Invalid keyslot ${index >>> 0} specified, ${words}`);
}

async function activate(context: LuksContext, change: SlotChange): Promise<void> {
  const { slots } = context.header;
  const { options, secrets, keySecret, force } = change;
  const newSecret = textOption(options, "new-secret");
  if (newSecret === undefined) throw optionFault("'new-secret' is required to activate a keyslot");
  if (options["old-secret"] !== undefined) {
    throw optionFault("'old-secret' must not be given when activating keyslots");
  }
  const given = slotOption(change, slots);
  if (given !== undefined && slots[given]?.active && !force) {
    throw optionFault(`Refusing to overwrite active keyslot ${given} - please erase it first`);
  }
  const index = given ?? slots.findIndex(({ active }) => !active);
  if (index < 0) throw optionFault("Can't add a keyslot - all keyslots are in use");
  const iterTimeMs = iterTimeOption(options);
  const old = secrets.lookupText(textOption(options, "secret") ?? keySecret);
  const key = await findMasterKey(context, old);
  if (!key) throw optionFault("Invalid password, cannot unlock any keyslot");
  await storeKey(context, index, { key, passphrase: secrets.lookupText(newSecret), iterTimeMs });
  key.fill(0);
}

/** Whether a passphrase opens a slot. */
async function opens(context: LuksContext, index: number, passphrase: Uint8Array): Promise<boolean> {
  const slot = context.header.slots[index];
  return slot?.active === true && (await openSlot(context, slot, passphrase)) !== undefined;
}

interface Erasure {
  /** The passphrase that the slots are to have. */
  readonly passphrase: Uint8Array | undefined;
  readonly active: number;
  readonly force: boolean;
}

/** The slot of that number, checked: by force also one that is erased already, or the last one. */
async function slotToErase(
  context: LuksContext,
  given: number,
  { passphrase, active, force }: Erasure,
): Promise<number> {
  if (passphrase && !(await opens(context, given, passphrase)))
    throw optionFault(`Given keyslot ${given} doesn't contain the given old password for erase operation`);
  if (force) return given;
  if (!context.header.slots[given]?.active)
    throw optionFault(`Given keyslot ${given} is already erased (inactive) `);
  if (active > 1) return given;
  const loss = "which will erase all the data in the image irreversibly - refusing operation";
  throw optionFault(`Attempt to erase the only active keyslot ${given} ${loss}`);
}

async function slotsToErase(context: LuksContext, change: SlotChange): Promise<number[]> {
  const { options, force, secrets } = change;
  const { slots } = context.header;
  const active = slots.filter((slot) => slot.active).length;
  const given = slotOption(change, slots);
  const oldSecret = textOption(options, "old-secret");
  const passphrase = oldSecret === undefined ? undefined : secrets.lookupText(oldSecret);
  if (given !== undefined) return [await slotToErase(context, given, { passphrase, active, force })];
  if (!passphrase) {
    const need = "either explicit keyslot index or the password currently contained in them must be given";
    throw optionFault(`To erase keyslot(s), ${need}`);
  }
  const matches: number[] = [];
  for (const index of slots.keys()) if (await opens(context, index, passphrase)) matches.push(index);
  if (matches.length === 0) throw optionFault("No keyslots match given (old) password for erase operation");
  if (matches.length === active && !force) {
    const loss = "and erasing them will erase all the data in the image irreversibly - refusing operation";
    throw optionFault(`All the active keyslots match the (old) password that was given ${loss}`);
  }
  return matches;
}

async function deactivate(context: LuksContext, change: SlotChange): Promise<void> {
  for (const name of ["new-secret", "iter-time"]) {
    if (change.options[name] === undefined) continue;
    throw optionFault(`'${name}' must not be given when erasing keyslots`);
  }
  for (const index of await slotsToErase(context, change)) await eraseSlot(context, index);
}

/** Carries out a change of key slots. Errors: EINVAL in QEMU's words, CommandError for a secret, those of the storage. */
export async function amendSlots(context: LuksContext, change: SlotChange): Promise<void> {
  const unknown = Object.keys(change.options).find((name) => !NAMES.includes(name));
  if (unknown !== undefined) throw optionFault(`Parameter '${unknown}' is unexpected`);
  const { state } = change.options;
  if (state === undefined) throw optionFault("Parameter 'state' is missing");
  if (state === "active") return activate(context, change);
  if (state === "inactive") return deactivate(context, change);
  throw optionFault(`Parameter 'state' does not accept value '${textOption(change.options, "state") ?? ""}'`);
}
