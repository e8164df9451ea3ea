/**
 * One option of a new image as its format tells it: what `-o` takes, what help, man pages and QAPI's check say of it, and
 * which member of the driver's creation options it becomes. Source: QEMU's QemuOptsList and BlockdevCreateOptions.
 */

/** What an option is read for. */
export type OptionUse = "create" | "measure" | "amend";

/** A row of a format's table. */
export interface CreateOption {
  /** As users write it. */
  readonly name: string;
  readonly type: "str" | "size" | "num" | "bool";
  readonly help: string;
  /** What `create` says where the user said nothing. */
  readonly default?: string;
  /** The member of the creation options (QAPI); `a.b` is member b of the object a. Absent: it means nothing to the driver. */
  readonly wire?: string;
  /** The words that QAPI's enumeration has. */
  readonly values?: readonly string[];
  /** What users may write instead of one of those. */
  readonly words?: Readonly<Record<string, string>>;
  /** Must be given where another member of its object is. */
  readonly isTag?: boolean;
  /** Names the secret that encrypts the image; opening takes it too, in the same member. */
  readonly isSecret?: boolean;
  /** Whether the size of an image with these creation options can't be told without it. */
  isNeededToMeasure?(options: Readonly<Record<string, unknown>>): boolean;
  /** Names a format. */
  readonly isFormat?: boolean;
  /** Names a file, which is made if it is not there. */
  readonly isFile?: boolean;
  /** Short for another option with a value, when it is on. */
  readonly alias?: { readonly option: string; readonly value: string };
  /** Of QEMU after 7.2: taken, and not among the options that help shows. */
  readonly isNewer?: boolean;
  /** When on, what is made is no disk: it needs no size, and nothing can be copied to it. */
  readonly isNoDisk?: boolean;
  /** QEMU's words for a value that it does not take; undefined: it is taken, or QAPI says it. */
  refusal?(value: string, use: OptionUse): string | undefined;
}
