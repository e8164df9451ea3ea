/**
 * Formats that have no driver here, by their first bytes, so that their containers are not taken for raw disks: they are named
 * and refused, unless the user says that the file is raw. All such magics stand here and nowhere else.
 * Source: the published descriptions of these formats; the scores of QEMU 7.2's probes play no part.
 */

interface Magic {
  readonly format: string;
  /** Bytes from the file's start. */
  readonly at: number;
  /** Latin-1 text of the bytes. */
  readonly text: string;
}

const magics: readonly Magic[] = [
  { format: "vmdk", at: 0, text: "KDMV" },
  { format: "vmdk", at: 0, text: "COWD" },
  { format: "vmdk", at: 0, text: "# Disk DescriptorFile" },
  { format: "vdi", at: 64, text: "\x7f\x10\xda\xbe" },
  { format: "vhdx", at: 0, text: "vhdxfile" },
  { format: "vpc", at: 0, text: "conectix" },
  { format: "qed", at: 0, text: "QED\0" },
  { format: "qcow", at: 0, text: "QFI\xfb\0\0\0\x01" },
  { format: "parallels", at: 0, text: "WithoutFreeSpace" },
  { format: "parallels", at: 0, text: "WithouFreSpacExt" },
  { format: "bochs", at: 0, text: "Bochs Virtual HD Image" },
  { format: "cloop", at: 0, text: "#!/bin/sh\n#V2.0 Format\nmodprobe cloop" },
];

/** What stands at the start of the last 512 bytes of formats that end in a trailer. */
const trailers: readonly Magic[] = [
  { format: "vpc", at: 0, text: "conectix" },
  { format: "dmg", at: 0, text: "koly" },
];

/** The bytes of a trailer, at a file's end. */
export const TRAILER_BYTES = 512;

function find(table: readonly Magic[], bytes: Uint8Array): string | undefined {
  const holds = ({ at, text }: Magic): boolean =>
    Array.from({ length: text.length }, (_, index) => text.charCodeAt(index)).every(
      (code, index) => bytes[at + index] === code,
    );
  return table.find(holds)?.format;
}

/** The foreign format that a file starting with `head` (512 bytes or whole) is in; undefined: none that is known. */
export function foreignFormat(head: Uint8Array): string | undefined {
  return find(magics, head);
}

/** The foreign format that a file ending with `tail` (its last TRAILER_BYTES) is in. */
export function foreignTrailer(tail: Uint8Array): string | undefined {
  return tail.byteLength === TRAILER_BYTES ? find(trailers, tail) : undefined;
}

/** Names of formats that QEMU has and this library does not. An image's header may name them, and users may. */
export const foreignFormats: readonly string[] =
  "qcow qed vmdk vdi vpc vhdx parallels bochs cloop dmg vvfat host_device nbd".split(" ");
