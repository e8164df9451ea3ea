/**
 * The options of LUKS1 volumes as `-o` takes them, for every format that is or holds one. Source: words of qemu-img 7.2.
 */

/** The name of the format of the encryption. */
export const LUKS = "luks";

/** Of a new volume, beside the secret. */
export const cipherOptions = [
  { name: "cipher-alg", type: "str", help: "Name of encryption cipher algorithm" },
  { name: "cipher-mode", type: "str", help: "Name of encryption cipher mode" },
  { name: "ivgen-alg", type: "str", help: "Name of IV generator algorithm" },
  { name: "ivgen-hash-alg", type: "str", help: "Name of IV generator hash algorithm" },
  { name: "hash-alg", type: "str", help: "Name of encryption hash algorithm" },
  { name: "iter-time", type: "num", help: "Time to spend in PBKDF in milliseconds" },
] as const;

/** Of its key slots, which can be amended. */
export const keySlotOptions = [
  { name: "state", type: "str", help: "Select new state of affected keyslots (active/inactive)" },
  {
    name: "new-secret",
    type: "str",
    help: "New secret to set in the matching keyslots. Empty string to erase",
  },
  { name: "old-secret", type: "str", help: "Select all keyslots that match this password" },
  { name: "keyslot", type: "num", help: "Select a single keyslot to modify explicitly" },
  { name: "iter-time", type: "num", help: "Time to spend in PBKDF in milliseconds" },
] as const;
